"""The management API: routes and bodies as the code has them (`chat.console.endpoints`), answers as `billing.api.objects` makes them."""

from __future__ import annotations

from typing import Any, Final

from billing.api import bodies
from billing.api.objects import KEY_LIMITS, LIMITS
from billing.models import Budget, Membership, Workspace
from chat.console.endpoints import FIELDS, GROUPS, Said, list_routes
from chat.openapi.completions import IDEMPOTENCY_KEY
from chat.openapi.forms import (
    CREDITS,
    FLAG,
    JSON,
    MOMENT,
    TEXT,
    WHOLE,
    Operation,
    Schema,
    described,
    just,
    list_of,
    of,
    one_of,
    or_null,
    page_of,
    shape,
)
from chat.openapi.records import PAGING, limit_value

# By the name of a route's pattern and its method: how clients call it, and what it answers.
_ANSWERS: Final[dict[tuple[str, str], tuple[str, Schema]]] = {
    ("workspaces", "GET"): ("listWorkspaces", page_of(of("Workspace"))),
    ("workspace", "GET"): ("getWorkspace", of("Workspace")),
    ("workspace", "PATCH"): ("updateWorkspace", of("Workspace")),
    ("keys", "GET"): ("listKeys", page_of(of("Key"))),
    ("keys", "POST"): ("createKey", of("NewKey")),
    ("key-detail", "GET"): ("getKey", of("Key")),
    ("key-detail", "PATCH"): ("updateKey", of("Key")),
    ("key-detail", "DELETE"): ("revokeKey", of("Key")),
    ("key-roll", "POST"): ("rollKey", of("RolledKey")),
    ("members", "GET"): ("listMembers", page_of(of("Member"))),
    ("members", "POST"): ("inviteMember", of("Invitation")),
    ("member", "GET"): ("getMember", of("Member")),
    ("member", "PATCH"): ("updateMember", of("ChangedMember")),
    ("member", "DELETE"): ("removeMember", of("RemovedMember")),
    ("budgets", "GET"): ("listBudgets", page_of(of("Budget"))),
    ("budgets", "PUT"): ("setBudget", {"oneOf": [of("Budget"), of("NoBudget")]}),
    ("presets", "GET"): ("listPresets", page_of(of("Preset"))),
    ("presets", "POST"): ("createPreset", of("Preset")),
    ("preset", "GET"): ("getPreset", of("Preset")),
    ("preset", "PATCH"): ("updatePreset", of("Preset")),
}
_ROLE: Final = one_of(*Membership.Role.values)


def schemas() -> dict[str, Schema]:
    key = _key()
    member = {
        "id": TEXT,
        "object": just("member"),
        "username": TEXT,
        "role": _ROLE,
        "preset": or_null(TEXT),
        "created_at": MOMENT,
    }
    text = {"key": described(TEXT, "The text of the key, here and never again.")}
    return {
        "Workspace": shape(
            {
                "id": TEXT,
                "object": just("workspace"),
                "name": TEXT,
                "state": one_of(*Workspace.State.values),
                "role": or_null(_ROLE),
                "plan": or_null(TEXT),
                "limits": of("EffectiveLimits"),
                "created_at": MOMENT,
            }
        ),
        "Key": shape(key),
        "NewKey": shape({**key, **text}),
        "RolledKey": shape({**key, **text, "rolled_from": of("Key")}),
        "Member": shape(member),
        "ChangedMember": shape({**member, "revoked_keys": WHOLE}),
        "RemovedMember": shape({"id": TEXT, "object": just("member"), "removed": FLAG, "revoked_keys": WHOLE}),
        "Invitation": shape(
            {
                "id": TEXT,
                "object": just("invitation"),
                "email": TEXT,
                "role": _ROLE,
                "created_at": MOMENT,
                "expires_at": MOMENT,
            }
        ),
        **_budgets(),
        "Preset": shape(
            {
                "id": TEXT,
                "object": just("preset"),
                "name": TEXT,
                "is_shared": FLAG,
                **{name: limit_value(name) for name in LIMITS},
                "monthlyCredits": or_null(CREDITS),
                "hasRollover": FLAG,
                "maxRolloverCredits": or_null(CREDITS),
                "created_at": MOMENT,
            }
        ),
    }


def _budgets() -> dict[str, Schema]:
    budget = {"object": just("budget"), "scope": one_of(*Budget.Scope.values), "scope_id": TEXT}
    return {
        "Budget": shape(
            {
                **budget,
                "id": TEXT,
                "period": one_of(*Budget.Period.values),
                "limit": CREDITS,
                "staff_limit": or_null(CREDITS),
                **dict.fromkeys(("spent", "held", "available"), CREDITS),
                "started_at": MOMENT,
                "resets_at": or_null(MOMENT),
            }
        ),
        "NoBudget": shape({**budget, "limit": {"type": "null"}}),
    }


def _key() -> dict[str, Schema]:
    return {
        "id": TEXT,
        "object": just("api_key"),
        "name": TEXT,
        "hint": TEXT,
        "state": one_of("active", "expired", "revoked"),
        "scopes": list_of(TEXT),
        "allowed_addresses": list_of(TEXT),
        "owner": or_null(TEXT),
        "preset": or_null(TEXT),
        **{name: limit_value(name) for name in KEY_LIMITS},
        "limits": of("EffectiveLimits"),
        "created_at": MOMENT,
        "expires_at": or_null(MOMENT),
        "revoked_at": or_null(MOMENT),
    }


def operations() -> list[Operation]:
    routes, found = list_routes(), []
    for group, said in GROUPS.items():
        for key in said:
            route, (name, answer) = routes[key], _ANSWERS[key]
            found.append(
                Operation(
                    id=name,
                    method=route.method,
                    path=route.path,
                    tag=group,
                    summary=said[key].does,
                    body=_body(said[key]),
                    answers={JSON: answer},
                    status=201 if route.method == "POST" else 200,
                    query=PAGING if name.startswith("list") else {},
                    headers={"Idempotency-Key": IDEMPOTENCY_KEY} if route.is_idempotent else {},
                    scopes=route.scopes,
                )
            )
    return found


def _body(said: Said) -> Schema | None:
    if said.body is None:
        return None
    fields = said.body().fields
    schema = shape({name: _field(name, field) for name, field in fields.items()})
    schema["required"] = [] if said.is_partial else [name for name, field in fields.items() if field.required]
    return {**schema, "additionalProperties": False, "example": said.example}


def _field(name: str, field: Any) -> Schema:
    schema = _kind(field)
    if name in FIELDS:
        schema = described(schema, FIELDS[name])
    return or_null(schema) if field.allow_null else schema


def _kind(field: Any) -> Schema:
    """What a field of `billing.api.bodies` takes."""
    match field:
        case bodies.Choice():
            return one_of(*field.choices)
        case bodies.List():
            return list_of(_kind(field.child)) | ({} if field.max_length is None else {"maxItems": field.max_length})
        case bodies.Text():
            return {**TEXT, "minLength": 1} | ({} if field.max_length is None else {"maxLength": field.max_length})
        case bodies.Integer():
            return {**WHOLE, "minimum": field.min_value, "maximum": field.max_value}
        case bodies.Credits():
            return {**CREDITS, "minimum": 0}
        case bodies.Moment():
            return TEXT
    raise TypeError(f"nothing is said of {type(field).__name__}")
