"""How the staff admin looks and what its menu holds: the settings of django-unfold. Colours are those of `gateway/tokens.css`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse
from django.utils.functional import lazy

_STEPS = ["50", "100", "200", "300", "400", "500", "600", "700", "800", "900", "950"]

Item = dict[str, Any]


def _scale(hexes: str) -> dict[str, str]:
    return dict(zip(_STEPS, (f"#{value}" for value in hexes.split()), strict=True))


def _file(path: str) -> Callable[[HttpRequest], str]:
    return lambda request: static(path)


def _may(*permissions: str) -> Callable[[HttpRequest], bool]:
    return lambda request: any(request.user.has_perm(permission) for permission in permissions)


# Looked up once, not for each item of each page: the menu asks for its links again and again.
_link = lazy(functools.cache(reverse), str)


def _item(title: str, icon: str, page: str, *permissions: str) -> Item:
    link = _link(f"admin:{page}")
    return {"title": title, "icon": icon, "link": link, "permission": _may(*permissions), "active": _is_at(link)}


def _is_at(lazy_link: Any) -> Callable[[HttpRequest], bool]:
    """Below this address, and not at a page below it that has an item of its own."""

    def is_at(request: HttpRequest) -> bool:
        link = str(lazy_link)
        others = (str(item["link"]) for group in NAVIGATION for item in group["items"])
        return request.path.startswith(link) and not any(
            other.startswith(link) and other != link and request.path.startswith(other) for other in others
        )

    return is_at


def _group(title: str, *items: Item) -> Item:
    return {"title": title, "separator": True, "items": list(items)}


NAVIGATION = [
    {"items": [{"title": "Overview", "icon": "dashboard", "link": _link("admin:index")}]},
    _group(
        "Customers",
        _item("Workspaces", "workspaces", "billing_workspace_changelist", "billing.view_workspace"),
        _item("API keys", "key", "billing_apikey_changelist", "billing.view_apikey"),
        _item("Members", "group", "billing_membership_changelist", "billing.view_membership"),
        _item("Plans and presets", "speed", "billing_quotapreset_changelist", "billing.view_quotapreset"),
        _item("Announcements", "campaign", "billing_announcement_changelist", "billing.view_announcement"),
    ),
    _group(
        "Usage",
        _item("Requests", "receipt_long", "billing_usagerecord_changelist", "billing.view_usagerecord"),
        _item("Audit trail", "history", "billing_auditevent_changelist", "billing.view_auditevent"),
    ),
    _group(
        "Messages",
        _item("Notices", "notifications", "billing_notice_changelist", "billing.view_notice"),
        _item("Webhooks", "webhook", "billing_webhookendpoint_changelist", "billing.view_webhookendpoint"),
        _item("Webhook messages", "outbox", "billing_webhookdelivery_changelist", "billing.view_webhookdelivery"),
    ),
    _group(
        "Money",
        _item("Credit orders", "approval", "billing_creditorder_changelist", "billing.view_creditorder"),
        _item("Payments", "credit_card", "billing_payment_changelist", "billing.view_payment"),
        _item("Redemption codes", "redeem", "billing_codebatch_changelist", "billing.view_codebatch"),
        _item("Ledger", "account_balance", "billing_entry_changelist", "billing.view_entry"),
        _item("Holds", "lock_clock", "billing_hold_changelist", "billing.view_hold"),
        _item("Accounts", "account_balance_wallet", "billing_account_changelist", "billing.view_account"),
        _item("Credit lots", "layers", "billing_creditlot_changelist", "billing.view_creditlot"),
        _item("Reconciliation", "fact_check", "billing_entry_reconciliation", "billing.reconcile_ledger"),
        _item("Budgets", "savings", "billing_budget_changelist", "billing.view_budget"),
    ),
    _group(
        "Catalogue",
        _item("Models", "deployed_code", "chat_catalogmodel_changelist", "chat.view_catalogmodel"),
        _item("Prices", "sell", "chat_price_changelist", "chat.view_price"),
        _item("Providers", "dns", "chat_provider_changelist", "chat.view_provider"),
        _item("Fallback chains", "alt_route", "chat_fallbackchain_changelist", "chat.view_fallbackchain"),
        _item("Routes", "route", "chat_fallbackchain_route", "chat.view_fallbackchain"),
        _item(
            "Incident switch",
            "emergency",
            "chat_catalogmodel_incident",
            "chat.change_catalogmodel",
            "billing.suspend_workspace",
        ),
        _item("PDF page fee", "picture_as_pdf", "chat_catalogdefault_changelist", "chat.view_catalogdefault"),
    ),
    _group(
        "Staff",
        _item("People", "badge", "auth_user_changelist", "auth.view_user"),
        _item(
            "Background work",
            "pending_actions",
            "django_tasks_database_dbtaskresult_changelist",
            "django_tasks_database.view_dbtaskresult",
        ),
        _item("Roles", "admin_panel_settings", "auth_group_changelist", "auth.view_group"),
    ),
]

UNFOLD = {
    "SITE_TITLE": "Gateway",
    "SITE_HEADER": "Gateway",
    "SITE_SUBHEADER": "Staff admin",
    "SITE_ICON": _file("gateway/mark.svg"),
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": _file("gateway/mark.svg")}],
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_HISTORY": True,
    "DASHBOARD_CALLBACK": "chat.admin.dashboard.dashboard",
    "STYLES": [_file("gateway/tokens.css"), _file("gateway/admin.css")],
    "SCRIPTS": [_file("gateway/admin.js")],
    "BORDER_RADIUS": "6px",
    "COLORS": {
        "base": _scale("f5f8f8 eef2f3 dbe1e2 cad1d3 9ba5a8 6d787c 525c60 3c4649 232c2f 12191b 070c0e"),
        "primary": _scale("ecfafc d7f3f7 b3e7ef 81d7e4 4ec2d2 17a1b1 097d8a 01626d 014c54 07383f 022327"),
        "font": {
            "subtle-light": "#525c60",
            "subtle-dark": "#9ba5a8",
            "default-light": "#3c4649",
            "default-dark": "#cad1d3",
            "important-light": "#12191b",
            "important-dark": "#eef2f3",
        },
    },
    "SIDEBAR": {"show_search": True, "navigation": NAVIGATION},
    "ACCOUNT": {
        "navigation": [
            {"title": "Second factor", "link": _link("mfa_index")},
            {"title": "Change password", "link": _link("account_change_password")},
        ]
    },
}
