"""Rows of billing: who may spend, and what was spent. Money rows are written by `billing.ledger` only."""

from billing.models.announcements import Announcement, Dismissal
from billing.models.audit import AuditEvent
from billing.models.clock import ClockReading
from billing.models.codes import CodeBatch, Redemption, RedemptionCode
from billing.models.days import EndUserDay, UsageDay
from billing.models.idempotency import IdempotentReply
from billing.models.keys import ApiKey, Budget, QuotaPreset
from billing.models.ledger import Account, CreditLot, Entry, Hold
from billing.models.notices import AlertBook, AlertTerms, Notice
from billing.models.orders import CreditOrder
from billing.models.payments import Payment, PaymentTerms
from billing.models.usage import RequestTrace, UsageRecord
from billing.models.webhooks import WebhookDelivery, WebhookEndpoint
from billing.models.workspaces import Invitation, Membership, Workspace

__all__ = [
    "Account",
    "AlertBook",
    "AlertTerms",
    "Announcement",
    "ApiKey",
    "AuditEvent",
    "Budget",
    "ClockReading",
    "CodeBatch",
    "CreditLot",
    "CreditOrder",
    "Dismissal",
    "EndUserDay",
    "Entry",
    "Hold",
    "IdempotentReply",
    "Invitation",
    "Membership",
    "Notice",
    "Payment",
    "PaymentTerms",
    "QuotaPreset",
    "Redemption",
    "RedemptionCode",
    "RequestTrace",
    "UsageDay",
    "UsageRecord",
    "WebhookDelivery",
    "WebhookEndpoint",
    "Workspace",
]
