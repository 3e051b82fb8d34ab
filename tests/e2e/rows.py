"""One row, or a few, of everything that the staff admin and the console show."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import Group, User
from django.core.files.base import ContentFile
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from billing import announcements, apikeys, budgets, invitations, members, presets
from billing.models import (
    Announcement,
    AuditEvent,
    Budget,
    CodeBatch,
    CreditOrder,
    Entry,
    Membership,
    Payment,
    Redemption,
    RedemptionCode,
    RequestTrace,
    WebhookDelivery,
    Workspace,
)
from billing.quotas import Limits
from billing.webhooks import endpoints
from billing.workspaces import transfer_credits
from chat.loading.chains import write_chain
from chat.loading.rows import PriceAmounts, add_price, set_default_pdf_fee
from chat.models import CatalogModel, Provider, Target
from files import keeping
from files.room import room_of
from tests.api.admin.pages import CREDIT
from tests.e2e.hostile import attack
from tests.fakes.passkeys import Device
from tests.fakes.pdfs import of_pages
from tests.records import add_charge, add_record
from tests.worlds import World

_ATTEMPTS = [
    {
        "provider": "fake",
        "upstream_model": "slow",
        "model": "main",
        "result": "upstream_error",
        "upstream_status": 500,
        "started_ms": 5,
        "duration_ms": 300,
    },
    {
        "provider": "fake",
        "upstream_model": "quick",
        "model": "second",
        "result": "served",
        "started_ms": 310,
        "duration_ms": 80,
    },
]


def make_rows(owner: User, turn: int) -> None:
    """`owner` is of the staff, and owns the workspace. Texts that no later change can replace attack from the beginning."""
    # Her pages are those of who has a second factor, and just gave it
    EmailAddress.objects.get_or_create(user=owner, email=owner.email, defaults={"verified": True, "primary": True})
    asked = {"publicKey": {"rp": {"id": "localhost"}, "user": {"id": ""}, "challenge": ""}}
    passkey = {"name": attack(500, turn), "credential": Device().make(asked)}
    Authenticator.objects.create(user=owner, type=Authenticator.Type.WEBAUTHN, data=passkey)
    workspace = members.found_workspace(f"walked {turn}", owner).workspace
    member = _people(workspace, owner, turn)
    key, _ = apikeys.mint(
        workspace, "laptop", actor="tests", terms=apikeys.KeyTerms(allowed_models=["main"], allowed_addresses=["10.0.0.1"])
    )
    apikeys.mint(workspace, "of a member", actor="tests", creator=apikeys.creator_of(member))
    budgets.set_budget(key, period=Budget.Period.MONTH, limit_microcredits=5 * CREDIT, actor="tests", reason="careful")
    budgets.set_budget(workspace, period=Budget.Period.DAY, limit_microcredits=9 * CREDIT, actor="tests", reason="careful")
    _money(workspace, turn)
    _codes(workspace, turn)
    _payment(workspace, turn)
    _request(World(workspace, key, ""), f"chatcmpl-walk-{turn}", turn)
    AuditEvent.objects.create(actor="tests", action="walked", workspace=workspace, target="t", reason="r", details={"a": ["b"]})
    _catalogue(turn)
    data = of_pages(["A page."])
    new = keeping.NewFile("user_data", "paper.pdf", "application/pdf", len(data), hashlib.sha256(data).hexdigest())
    keeping.keep(workspace.pk, workspace.public_id, new, ContentFile(data), room_of(member), now=timezone.now())
    hook, _ = endpoints.create(workspace, "https://1.1.1.1/hooks", [], actor="tests")
    WebhookDelivery.objects.create(endpoint=hook, message_id=f"msg {turn}", kind="test", body="{}", last_error="why")
    announcements.publish(Announcement(text="Hello", severity=("warning", "info")[turn]), actor="tests")
    Group.objects.create(name=f"role {turn}")
    DBTaskResult.objects.create(
        status="FAILED",
        task_path="billing.mail",
        args_kwargs={"args": ["to"], "kwargs": {}},
        traceback="why",
        run_after=timezone.now(),
        finished_at=timezone.now(),
        exception_class_path="OSError",
        backend_name="default",
    )


def _people(workspace: Workspace, owner: User, turn: int) -> Membership:
    grace = User.objects.create_user(f"grace{turn}", f"grace{turn}@walk.example", first_name="Grace", last_name="H")
    EmailAddress.objects.create(user=grace, email=grace.email, verified=True, primary=True)
    member = members.add_member(workspace, grace, Membership.Role.DEVELOPER, actor="tests")
    limits = Limits(frozenset({"main"}), max_tokens_daily=5_000_000)
    plan = presets.create_preset(f"gold {turn}", limits, actor="tests")
    own = presets.create_preset(f"silver {turn}", limits, actor="tests", workspace=workspace)
    presets.set_plan(workspace, plan, actor="tests", reason="They asked for it")
    presets.set_member_preset(member, own, actor="tests")
    # To another workspace's owner, whose page of it then names workspace and inviter
    other = members.found_workspace(f"other {turn}", grace).workspace
    for place, to, by in ((other, owner.email, grace), (workspace, f"new{turn}@walk.example", owner)):
        invitations.invite(place, to, Membership.Role.VIEWER, inviter=by, link="https://x.example/{id}", actor="tests")
    return member


def _money(workspace: Workspace, turn: int) -> None:
    now = timezone.now()
    for number, kind in enumerate((Entry.Kind.TOP_UP, Entry.Kind.GRANT)):
        transfer_credits(
            workspace,
            40 * CREDIT,
            kind=kind,
            idempotency_key=f"{turn}{number}{attack(200, turn + number)}",
            actor=attack(160, turn),
            reason=attack(500, turn),
            expires_at=now + timedelta(days=9) if kind == Entry.Kind.GRANT else None,
        )
    entry = Entry.objects.latest("pk")
    orders: list[dict[str, Any]] = [
        {},
        {"state": "booked", "decided_at": now, "decided_by": "fay", "entry": entry},
        {"state": "refused", "decided_at": now, "decided_by": "fay", "decision_reason": "no"},
    ]
    for number, decision in enumerate(orders):
        CreditOrder.objects.create(
            workspace=workspace,
            kind=Entry.Kind.GRANT,
            amount_microcredits=40 * CREDIT,
            reason="a pilot",
            idempotency_key=f"order {turn} {number}",
            ordered_by="finn",
            **decision,
        )


def _codes(workspace: Workspace, turn: int) -> None:
    batch = CodeBatch.objects.create(
        kind=Entry.Kind.GRANT,
        amount_microcredits=CREDIT,
        count=1,
        max_uses=1,
        total_microcredits=CREDIT,
        reason="a fair",
        idempotency_key=f"batch {turn}",
        ordered_by="finn",
        state=CodeBatch.State.ISSUED if turn else CodeBatch.State.OPEN,
    )
    code = RedemptionCode.objects.create(batch=batch, digest=f"{turn:064}", hint="wxyz", max_uses=1, uses=1)
    Redemption.objects.create(code=code, workspace=workspace, entry=Entry.objects.latest("pk"), redeemed_by="ada")


def _payment(workspace: Workspace, turn: int) -> None:
    Payment.objects.create(
        workspace=workspace,
        origin=Payment.Origin.CHECKOUT,
        amount_microcredits=CREDIT,
        price_units=100,
        currency="eur",
        state=Payment.State.FAILED,
        failure="declined",
        session_id=f"cs {turn}",
        intent_id=f"pi {turn}",
        created_by="ada",
    )


def _request(world: World, generation: str, turn: int) -> None:
    line = {
        "kind": attack(60, turn),
        "quantity": 4,
        "unit": attack(60, turn),
        "unit_price_microcredits": CREDIT,
        "amount_microcredits": CREDIT,
    }
    told: dict[str, Any] = {
        "created_at": timezone.now(),
        "model_asked": "main",
        "provider": "fake",
        "first_token_ms": 300,
        "latency_ms": 400,
        "fallback_depth": 1,
    }
    record = add_charge(world, CREDIT, generation=generation, lines=[line], finish_reason="stop", end_user="theirs", **told)
    failure = {"status": 502, "end_state": "error", "error_code": "upstream_error"}
    add_record(world, generation=f"{generation}-failed", **failure, **told)
    RequestTrace.objects.filter(generation=record.generation).update(
        attempts=_ATTEMPTS, timings_ms={"all": 400, "upstream": 300, "note": "text"}
    )
    RequestTrace.objects.create(generation=f"{generation}-failed", attempts=_ATTEMPTS * 2)


def _catalogue(turn: int) -> None:
    provider = Provider.objects.create(
        slug=f"walked-{turn}", dialect="openai", base_url="http://127.0.0.1:9", api_key_env="NONE"
    )
    models = [
        CatalogModel.objects.create(
            slug=f"walked-{turn}-{number}",
            name="Walked",
            owned_by="us",
            context_window=8000,
            max_output_tokens=1000,
            deprecated_on=timezone.now().date() + timedelta(days=9),
        )
        for number in range(2)
    ]
    for model in models:
        for start in (timezone.now() + timedelta(days=9), None):
            amounts = PriceAmounts(input_microcredits=CREDIT * (2 if start else 1), output_microcredits=CREDIT)
            add_price(model, amounts, actor="tests", effective_at=start)
        Target.objects.create(model=model, provider=provider, upstream_model="up", quirks=["top_k"])
    write_chain(models[0], models[1:])
    set_default_pdf_fee(1000 + turn, actor="tests")
