"""Redemption codes in the staff admin: batches are issued, approved and withdrawn here. `billing.redemption` rules."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.contrib.filters.admin import ChoicesDropdownFilter, FieldTextFilter, RangeDateTimeFilter
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminSplitDateTimeWidget

from billing import crediting, redemption
from billing.admin.columns import (
    credits_column,
    credits_field,
    figure_column,
    id_column,
    state_column,
    text_column,
    time_column,
)
from billing.admin.credits import KINDS, bounds
from billing.admin.lists import BookAdmin
from billing.admin.parts import CreditsField, ReasonForm, form_page, granted_by, person_of
from billing.ledger.transfers import TransferError
from billing.models import CodeBatch, Entry, RedemptionCode
from billing.pricing import credits_text

_ISSUING = tuple(crediting.PERMISSIONS[kind] for kind in redemption.KINDS)


class IssueForm(ReasonForm):
    """`token` makes a form that is sent twice one batch."""

    kind = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    amount = CreditsField(label="Credits", help_text="Of one use of one code; at most six decimals.")
    count = forms.IntegerField(
        label="Codes", min_value=1, max_value=redemption.MAX_CODES, initial=1, widget=UnfoldAdminIntegerFieldWidget
    )
    max_uses = forms.IntegerField(
        label="Uses of each code",
        min_value=1,
        max_value=redemption.MAX_USES,
        initial=1,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="By so many workspaces, each of them once.",
    )
    expires_at = forms.SplitDateTimeField(
        required=False, widget=UnfoldAdminSplitDateTimeWidget, help_text="UTC; no code is taken after it. Empty for never."
    )
    token = forms.UUIDField(initial=uuid.uuid4, widget=forms.HiddenInput)

    field_order = ["kind", "amount", "count", "max_uses", "expires_at", "reason", "token"]

    def __init__(self, *args: Any, kinds: list[Entry.Kind], **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["kind"].choices = [(kind.value, KINDS[kind]) for kind in kinds]  # type: ignore[attr-defined]

    def wanted(self) -> redemption.Issue:
        values = self.cleaned_data
        return redemption.Issue(
            kind=Entry.Kind(values["kind"]),
            amount_microcredits=values["amount"],
            count=values["count"],
            max_uses=values["max_uses"],
            reason=values["reason"],
            token=str(values["token"]),
            expires_at=values["expires_at"],
        )


@admin.register(CodeBatch)
class CodeBatchAdmin(BookAdmin):
    amount = credits_field("amount_microcredits", "Credits of a use")
    total = credits_field("total_microcredits", "Credits in all")

    list_display = [
        time_column("created_at", "Ordered"),
        text_column("reason", "Reason"),
        text_column("get_kind_display", "Kind"),
        credits_column("amount_microcredits", "Credits of a use"),
        figure_column("count", "Codes"),
        figure_column("max_uses", "Uses of each"),
        time_column("expires_at", "Ends"),
        text_column("ordered_by", "Ordered by"),
        state_column("state", "State", {"open": "Waits for a second person"}),
    ]
    list_filter = [
        ("state", ChoicesDropdownFilter),
        ("ordered_by", FieldTextFilter),
        ("created_at", RangeDateTimeFilter),
    ]
    exact_fields = ("public_id",)
    search_help_text = "The id of a batch, whole"
    fields = [
        *("public_id", "kind", amount, "count", "max_uses", total, "expires_at", "reason", "ordered_by", "created_at"),
        *("needs_second_person", "state", "decided_by", "decided_at", "decision_reason"),
    ]
    readonly_fields = fields
    actions_list = ["issue"]
    actions_detail = ["approve", "refuse", "withdraw", "its_codes"]
    has_issue_permission = granted_by(*_ISSUING)
    has_approve_permission = granted_by(crediting.DECIDE)
    has_refuse_permission = granted_by(crediting.DECIDE, *_ISSUING)
    has_read_permission = granted_by("billing.view_redemptioncode")

    @action(description="Issue codes", icon="add", permissions=["issue"], variant=ActionVariant.PRIMARY)
    def issue(self, request: HttpRequest) -> HttpResponse:
        person = person_of(request)
        kinds = [kind for kind in redemption.KINDS if person.has_perm(crediting.PERMISSIONS[kind])]
        form = IssueForm(request.POST or None, kinds=kinds)
        if form.is_valid():
            try:
                batch, texts = redemption.issue(form.wanted(), person=person)
            except TransferError as error:
                form.add_error(None, _said(error))
            else:
                return self._show_codes(request, batch, texts)
        note = f"The codes are shown once, on the next page. {bounds(request)}"
        return form_page(self, request, form, title="Issue redemption codes", button="Issue codes", note=note)

    def _show_codes(self, request: HttpRequest, batch: CodeBatch, texts: list[str]) -> TemplateResponse:
        """The one page that holds the codes: no redirect, so that neither a cookie nor a session row carries them."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Redemption codes",
            "batch": batch,
            "amount": credits_text(batch.amount_microcredits),
            "is_open": batch.state == CodeBatch.State.OPEN,
            "texts": "\n".join(texts),
            "rows": min(len(texts), 20),
        }
        return TemplateResponse(request, "admin/billing/codes_made.html", context, headers={"Cache-Control": "no-store"})

    @action(description="Approve", icon="check_circle", permissions=["approve"], variant=ActionVariant.PRIMARY)
    def approve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._decide(
            request, object_id, "Approve", forms.Form, lambda batch, _: redemption.approve(batch, person=person_of(request))
        )

    @action(description="Refuse", icon="block", permissions=["refuse"])
    def refuse(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def act(batch: CodeBatch, reason: str) -> None:
            redemption.refuse(batch, person=person_of(request), reason=reason)

        return self._decide(request, object_id, "Refuse", ReasonForm, act)

    @action(description="Withdraw", icon="block", permissions=["issue"], variant=ActionVariant.DANGER)
    def withdraw(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def act(batch: CodeBatch, reason: str) -> None:
            redemption.withdraw(batch, person=person_of(request), reason=reason)

        return self._decide(request, object_id, "Withdraw", ReasonForm, act)

    @action(description="Its codes", icon="list", permissions=["read"])
    def its_codes(self, request: HttpRequest, object_id: str) -> HttpResponse:
        batch = get_object_or_404(CodeBatch, pk=object_id)
        return HttpResponseRedirect(f"{reverse('admin:billing_redemptioncode_changelist')}?q={batch.public_id}")

    def _decide(
        self, request: HttpRequest, object_id: str, verb: str, kind: type[forms.Form], act: Callable[[CodeBatch, str], None]
    ) -> HttpResponse:
        batch = get_object_or_404(CodeBatch, pk=object_id)
        form = kind(request.POST if request.method == "POST" else None)
        if form.is_valid():
            try:
                act(batch, form.cleaned_data.get("reason", ""))
            except TransferError as error:
                form.add_error(None, _said(error))
            else:
                batch.refresh_from_db()
                messages.success(request, f"{batch}: {batch.get_state_display().lower()}.")
                return HttpResponseRedirect(reverse("admin:billing_codebatch_change", args=[batch.pk]))
        note = (
            f"{batch.ordered_by} ordered {batch.count:,} codes of {credits_text(batch.amount_microcredits)} credits for "
            f"{batch.max_uses:,} uses each, {credits_text(batch.total_microcredits)} credits in all: {batch.reason}"
        )
        return form_page(self, request, form, title=f"{verb}: {batch}", button=verb, note=note)


@admin.register(RedemptionCode)
class RedemptionCodeAdmin(BookAdmin):
    list_display = [
        time_column("created_at", "Issued"),
        id_column("hint", "Ends with"),
        text_column("batch__reason", "Reason of the batch"),
        credits_column("batch__amount_microcredits", "Credits of a use"),
        figure_column("uses", "Uses"),
        figure_column("max_uses", "Of"),
        time_column("withdrawn_at", "Withdrawn"),
    ]
    list_select_related = ["batch"]
    list_filter = [("withdrawn_at", admin.EmptyFieldListFilter), ("created_at", RangeDateTimeFilter)]
    search_help_text = "The id of a batch or of a workspace, whole, or the last four characters of a code"
    fields = ["batch", "hint", "uses", "max_uses", "used_by", "created_at", "withdrawn_at"]
    readonly_fields = fields
    exact_fields = ("hint", "batch__public_id")
    actions_detail = ["withdraw"]
    has_issue_permission = granted_by(*_ISSUING)

    def found(self, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return queryset.filter(
            Q(hint=term.upper()) | Q(batch__public_id=term) | Q(redemptions__workspace__public_id=term)
        ).distinct()

    @admin.display(description="Used by")
    def used_by(self, code: RedemptionCode) -> str:
        uses = code.redemptions.select_related("workspace").order_by("-pk")[:50]
        lines = [f"{use.created_at:%Y-%m-%d %H:%M} {use.workspace.name} ({use.workspace.public_id})" for use in uses]
        return "; ".join(lines) or "-"

    @action(description="Withdraw", icon="block", permissions=["issue"], variant=ActionVariant.DANGER)
    def withdraw(self, request: HttpRequest, object_id: str) -> HttpResponse:
        code = get_object_or_404(RedemptionCode, pk=object_id)
        form = ReasonForm(request.POST or None)
        if form.is_valid():
            redemption.withdraw_code(code, person=person_of(request), reason=form.cleaned_data["reason"])
            messages.success(request, f"{code} is withdrawn.")
            return HttpResponseRedirect(reverse("admin:billing_redemptioncode_change", args=[code.pk]))
        note = "Nobody can use it any more. What was redeemed stays."
        return form_page(self, request, form, title=f"Withdraw: {code}", button="Withdraw", note=note)


def _said(error: TransferError) -> str:
    return f"{str(error)[:1].upper()}{str(error)[1:]}."
