"""Credits in the staff admin: the forms that order what is done to them, and the orders themselves. `billing.crediting` rules."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter, FieldTextFilter, RangeDateTimeFilter
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminSplitDateTimeWidget

from billing import crediting
from billing.admin.columns import credits_column, credits_field, state_column, text_column, time_column
from billing.admin.lists import BookAdmin
from billing.admin.parts import CreditsField, ReasonForm, form_page, granted_by, person_of
from billing.crediting import Move
from billing.ledger.transfers import TransferError
from billing.models import CreditOrder, Entry, UsageRecord, Workspace
from billing.pricing import MAX_MICROCREDITS, credits_text

KINDS = {
    Entry.Kind.TOP_UP: "Top-up: paid for",
    Entry.Kind.GRANT: "Grant: given away",
    Entry.Kind.ADJUSTMENT: "Adjustment: a correction, up or down",
}


class CreditsForm(ReasonForm):
    """`token` makes a form that is sent twice one order."""

    kind = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    amount = CreditsField(
        label="Credits", may_be_negative=True, help_text="At most six decimals; below 0 for a correction only."
    )
    expires_at = forms.SplitDateTimeField(
        required=False, widget=UnfoldAdminSplitDateTimeWidget, help_text="UTC, of a grant only; empty for never."
    )
    token = forms.UUIDField(initial=uuid.uuid4, widget=forms.HiddenInput)

    field_order = ["kind", "amount", "expires_at", "reason", "token"]

    def __init__(self, *args: Any, kinds: list[Entry.Kind], **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["kind"].choices = [(kind.value, KINDS[kind]) for kind in kinds]  # type: ignore[attr-defined]


class RefundForm(ReasonForm):
    amount = CreditsField(label="Credits", required=False, help_text="Empty for all that was charged.")
    token = forms.UUIDField(initial=uuid.uuid4, widget=forms.HiddenInput)

    field_order = ["amount", "reason", "token"]


def move_page(model_admin: Any, request: HttpRequest, workspace: Workspace, *, done: HttpResponse) -> HttpResponse:
    """The page on which staff move credits of a workspace: the kinds that the person's role has.

    A refund is made on the page of its request, which it names.
    """
    person = person_of(request)
    kinds = [kind for kind in KINDS if person.has_perm(crediting.PERMISSIONS[kind])]
    form = CreditsForm(request.POST or None, kinds=kinds)
    if form.is_valid():
        values = form.cleaned_data
        move = Move(
            workspace=workspace,
            kind=Entry.Kind(values["kind"]),
            amount_microcredits=values["amount"],
            reason=values["reason"],
            token=str(values["token"]),
            expires_at=values["expires_at"],
        )
        if _ordered(request, form, move):
            return done
    note = f"The balance is {credits_text(workspace.account.posted_microcredits)} credits. {bounds(request)}"
    return form_page(model_admin, request, form, title=f"Move credits: {workspace.name}", button="Move credits", note=note)


def refund_page(model_admin: Any, request: HttpRequest, record: UsageRecord, *, done: HttpResponse) -> HttpResponse:
    """The page on which staff give back what a request was charged, or a part of it."""
    form = RefundForm(request.POST or None)
    left = crediting.refundable(record)
    if form.is_valid():
        values = form.cleaned_data
        move = Move(
            workspace=record.workspace,
            kind=Entry.Kind.REFUND,
            amount_microcredits=left if values["amount"] is None else values["amount"],
            reason=values["reason"],
            token=str(values["token"]),
            generation=record.generation,
        )
        if _ordered(request, form, move):
            return done
    note = (
        f"{record.workspace.name} was charged {credits_text(record.charged_microcredits)} credits for this request, of which "
        f"{credits_text(left)} can be refunded. {bounds(request)}"
    )
    return form_page(model_admin, request, form, title=f"Refund: {record.generation}", button="Refund credits", note=note)


def _ordered(request: HttpRequest, form: forms.Form, move: Move) -> bool:
    """Whether the order was made; else the form says why not."""
    try:
        made = crediting.order(move, person=person_of(request))
    except TransferError as error:
        form.add_error(None, f"{str(error)[:1].upper()}{str(error)[1:]}.")
        return False
    what = f"{credits_text(made.amount_microcredits)} credits: {made.get_kind_display()}"
    if made.state == CreditOrder.State.BOOKED:
        messages.success(request, f"{what} booked.")
    else:
        messages.warning(request, f"{what} waits for a second person, under Credit orders.")
    return True


def bounds(request: HttpRequest) -> str:
    """What the person may still move today, in words for a form."""
    left = crediting.left_today(person_of(request))
    second = f"Above {credits_text(crediting.second_person_above())} credits a second person has to agree."
    if left >= MAX_MICROCREDITS - crediting.second_person_above():
        return second
    return f"Your role lets you move {credits_text(left)} more credits today (UTC). {second}"


@admin.register(CreditOrder)
class CreditOrderAdmin(BookAdmin):
    amount = credits_field("amount_microcredits", "Credits")

    list_display = [
        time_column("created_at", "Ordered"),
        text_column("workspace__name", "Workspace"),
        text_column("get_kind_display", "Kind"),
        credits_column("amount_microcredits", "Credits"),
        text_column("reason", "Reason"),
        text_column("ordered_by", "Ordered by"),
        state_column("state", "State", {"open": "Waits for a second person"}),
        text_column("decided_by", "Decided by"),
    ]
    list_select_related = ["workspace"]
    list_filter = [
        ("state", ChoicesDropdownFilter),
        ("kind", ChoicesDropdownFilter),
        ("workspace", AutocompleteSelectFilter),
        ("ordered_by", FieldTextFilter),
        ("created_at", RangeDateTimeFilter),
    ]
    exact_fields = ("generation", "workspace__public_id")
    search_help_text = "A generation or workspace id, whole"
    fields = [
        *("workspace", "kind", amount, "generation", "expires_at", "reason", "ordered_by", "created_at"),
        *("needs_second_person", "state", "decided_by", "decided_at", "decision_reason", "entry"),
    ]
    readonly_fields = fields
    actions_detail = ["approve", "refuse"]
    has_approve_permission = granted_by(crediting.DECIDE)
    has_refuse_permission = granted_by(crediting.DECIDE, *crediting.PERMISSIONS.values())

    @action(description="Approve", icon="check_circle", permissions=["approve"], variant=ActionVariant.PRIMARY)
    def approve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._decide(request, object_id, is_approval=True)

    @action(description="Refuse", icon="block", permissions=["refuse"])
    def refuse(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._decide(request, object_id, is_approval=False)

    def _decide(self, request: HttpRequest, object_id: str, *, is_approval: bool) -> HttpResponse:
        waiting = get_object_or_404(CreditOrder.objects.select_related("workspace"), pk=object_id)
        kind = forms.Form if is_approval else ReasonForm
        form = kind(request.POST if request.method == "POST" else None)
        if form.is_valid():
            try:
                if is_approval:
                    crediting.approve(waiting, person=person_of(request))
                else:
                    crediting.refuse(waiting, person=person_of(request), reason=form.cleaned_data["reason"])
            except TransferError as error:
                form.add_error(None, f"{str(error)[:1].upper()}{str(error)[1:]}.")
            else:
                messages.success(request, f"{waiting} is {'booked' if is_approval else 'refused'}.")
                return HttpResponseRedirect(reverse("admin:billing_creditorder_change", args=[waiting.pk]))
        verb = "Approve" if is_approval else "Refuse"
        note = (
            f"{waiting.ordered_by} ordered {credits_text(waiting.amount_microcredits)} credits for {waiting.workspace.name}: "
            f"{waiting.get_kind_display()}, {waiting.reason}"
        )
        return form_page(self, request, form, title=f"{verb}: {waiting}", button=verb, note=note)
