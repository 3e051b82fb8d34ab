"""Every route of the management API, for the documentation: read off the patterns, their views and the bodies they take.

What a route is for, and an example of its body, is said here by hand; a test fails for a route of which nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from billing.api import bodies, management_urls
from billing.api.managing import CreatingView
from billing.permissions import TABLE, Action

ROOT: Final = "/api/"
# What stands for an id in an example: a variable of the reader's shell.
VARIABLES: Final = {"workspace_id": "$WORKSPACE", "key_id": "$KEY", "member_id": "$MEMBER", "preset_id": "$PRESET"}

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# By itself: without a body, and with one.
_CURL_SENDS = frozenset({"GET", "POST"})
_json = msgspec.json.Encoder().encode


class Route(NamedTuple):
    """One method at one address, as the code has it. `scopes`: a key needs one of them."""

    method: str
    path: str
    scopes: tuple[str, ...]
    is_idempotent: bool

    @property
    def pieces(self) -> list[str]:
        """The path between its slashes, where a narrow page breaks it."""
        return self.path.split("/")[1:]


class Said(NamedTuple):
    """What is said of a route by hand. `is_partial`: no field of the body is needed, and what is left out stays."""

    does: str
    body: type[bodies.Body] | None = None
    example: Mapping[str, Any] | None = None
    is_partial: bool = False


class Field(NamedTuple):
    """One field of a body."""

    name: str
    kind: str
    is_needed: bool
    says: str


class Endpoint(NamedTuple):
    """One route as the page shows it: `at` and `example_at` are ids on it, `data` is the body of the example as JSON.

    `flag` is what curl needs to send this method, `like` the route above it whose body has the same fields, if there is one.
    """

    at: str
    example_at: str
    flag: str
    route: Route
    does: str
    fields: tuple[Field, ...]
    is_partial: bool
    like: Endpoint | None
    url: str
    data: str


KEY_EXAMPLE: Final = {"name": "ci", "scopes": ["chat"], "maxRequestsPerMinute": 60, "maxBudgetMonthlyCredits": 500}

# In the order of the page, by the title of a group; of each route the name of its pattern and its method.
GROUPS: Final[Mapping[str, Mapping[tuple[str, str], Said]]] = {
    "Workspace": {
        ("workspaces", "GET"): Said("The workspaces of the caller. A key sees its own, and so learns the id for all else."),
        ("workspace", "GET"): Said("Name, state, plan, and each limit in force with the layer that it comes from."),
        ("workspace", "PATCH"): Said("Renames the workspace.", bodies.WorkspaceBody, {"name": "Acme"}, is_partial=True),
    },
    "Keys": {
        ("keys", "GET"): Said("The keys of the workspace, revoked ones too. No list has the text of a key."),
        ("keys", "POST"): Said(
            "Makes a key. The answer has its text as “key”, and is the only one that ever does.", bodies.KeyBody, KEY_EXAMPLE
        ),
        ("key-detail", "GET"): Said("One key, with its own limits and those in force."),
        ("key-detail", "PATCH"): Said(
            "Changes what is sent; null takes a limit, the preset or the end away. No key changes itself.",
            bodies.KeyBody,
            {"maxRequestsPerMinute": 120, "expires_at": "2099-12-31"},
            is_partial=True,
        ),
        ("key-roll", "POST"): Said(
            "A new key for this one, with the same limits and budgets. “overlap” says how long the old one goes on. "
            "The key of a playground is not rolled.",
            bodies.RollBody,
            {"overlap": "24h"},
        ),
        ("key-detail", "DELETE"): Said("Revokes the key at once. Its row stays, and its open streams end."),
    },
    "Members": {
        ("members", "GET"): Said("Who belongs to the workspace, with role and preset."),
        ("members", "POST"): Said(
            "Invites a person by mail: who accepts within 24 hours is a member. Whether the address has an account is not told. "
            "No role is given that may do what the caller may not; only the owner makes somebody Billing.",
            bodies.NewMemberBody,
            {"email": "grace@example.com", "role": "developer"},
        ),
        ("member", "GET"): Said("One member."),
        ("member", "PATCH"): Said(
            "Changes role or preset. Keys that the new role may not have are revoked; “revoked_keys” counts them.",
            bodies.MemberBody,
            {"role": "viewer"},
            is_partial=True,
        ),
        ("member", "DELETE"): Said("Removes the member, and revokes his keys at once. The owner stays."),
    },
    "Budgets": {
        ("budgets", "GET"): Said("Every budget with what is spent, held and left of it, and when it begins anew."),
        ("budgets", "PUT"): Said(
            "Sets the one budget of this scope and period; a limit of null takes it away. What was spent stays counted. "
            "What staff set for the workspace, “staff_limit”, stays: its own is the same or tighter.",
            bodies.BudgetBody,
            {"scope": "workspace", "period": "day", "limit": 250},
        ),
    },
    "Presets": {
        ("presets", "GET"): Said(
            "Sets of limits under a name: those of the workspace, and those that are there for everybody."
        ),
        ("presets", "POST"): Said(
            "Makes a preset of the workspace, to be given to members and keys.",
            bodies.PresetBody,
            {"name": "Interns", "allowedModels": ["*"], "maxTokensDaily": 2_000_000},
        ),
        ("preset", "GET"): Said("One preset."),
        ("preset", "PATCH"): Said(
            "Changes a preset of the workspace, and with it all who have it.",
            bodies.PresetBody,
            {"maxTokensDaily": 5_000_000},
            is_partial=True,
        ),
    },
}

FIELDS: Final[Mapping[str, str]] = {
    "name": "how people call it",
    "scopes": "what the key may do; without it what a key usually may",
    "allowed_addresses": "addresses or networks that it may be used from, such as 203.0.113.7 or 10.0.0.0/8; from anywhere if empty",
    "expires_at": "when it ends",
    "preset": "the id of a preset; a key gives it with workspace:manage only",
    "allowedModels": 'models by name; ["*"] for every one',
    "maxRequestsPerMinute": "counted over the sixty seconds until now",
    "maxRequestsDaily": "a day is one in UTC",
    "maxTokensPerMinute": "counted over the sixty seconds until now",
    "maxTokensDaily": "a day is one in UTC",
    "maxConcurrentRequests": "requests that run at the same time",
    "maxBudgetMonthlyCredits": "what the key may spend in a month, in UTC",
    "maxFileSizeBytes": "of one stored file",
    "maxFilesPerWorkspace": "stored files in all",
    "maxStorageBytesPerWorkspace": "bytes of all stored files",
    "overlap": "how long the old key goes on",
    "scope": "what is limited",
    "scope_id": "the id of the member or the key; left out for the workspace",
    "period": "a month without it; periods begin in UTC",
    "limit": "what may be spent in a period",
    "email": "the address that is sent the invitation; whoever accepts has verified it",
    "role": "what the member may do; only the owner, in person, makes another one the owner",
}


def list_groups() -> list[tuple[str, list[Endpoint]]]:
    """What the page shows, by group."""
    routes = list_routes()
    groups = []
    for title, group in GROUPS.items():
        shown: dict[Any, Endpoint] = {}
        endpoints = []
        for key, said in group.items():
            if key in routes:
                endpoints.append(_endpoint(key, routes[key], said, shown.get(said.body)))
                if said.body is not None:
                    shown.setdefault(said.body, endpoints[-1])
        groups.append((title, endpoints))
    return groups


def list_routes() -> dict[tuple[str, str], Route]:
    """Every route that there is, by the name of its pattern and its method."""
    return {(name, route.method): route for name, route in _routes()}


def _routes() -> Iterator[tuple[str, Route]]:
    for pattern in management_urls.urlpatterns:
        view: Any = getattr(pattern.callback, "cls", None)
        # The one view above all workspaces asks for nothing but to read one.
        actions = getattr(view, "actions", {"GET": Action.READ_WORKSPACE})
        path = str(pattern.pattern).replace("<public_id:", "{").replace(">", "}")
        for method in _METHODS:
            if method in actions:
                is_idempotent = method == "POST" and issubclass(view, CreatingView)
                scopes = tuple(sorted(TABLE[actions[method]].scopes))
                yield str(pattern.name), Route(method, ROOT + path, scopes, is_idempotent)


def _endpoint(key: tuple[str, str], route: Route, said: Said, like: Endpoint | None) -> Endpoint:
    name, method = key
    url = route.path
    for parameter, variable in VARIABLES.items():
        url = url.replace(f"{{{parameter}}}", variable)
    data = "" if said.example is None else _spaced(said.example)
    fields = () if said.body is None else tuple(list_fields(said.body, is_partial=said.is_partial))
    at, flag = f"{method.lower()}-{name}", "" if method in _CURL_SENDS else f"-X {method} "
    return Endpoint(at, f"{at}-curl", flag, route, said.does, fields, said.is_partial, like, url, data)


def _spaced(value: Mapping[str, Any]) -> str:
    """JSON as people write it."""
    pairs = [f"{_json(name).decode()}: {_json(one).decode().replace(',', ', ')}" for name, one in value.items()]
    return "{" + ", ".join(pairs) + "}"


def list_fields(body: type[bodies.Body], *, is_partial: bool) -> Iterator[Field]:
    for name, field in body().fields.items():
        yield Field(name, _kind(field), field.required and not is_partial, FIELDS.get(name, ""))


def _kind(field: Any) -> str:
    """What a field takes, in words, by its class in `billing.api.bodies`."""
    words = next((say(field) for kind, say in _KINDS if isinstance(field, kind)), "")
    return f"{words}, or null" if field.allow_null else words


def _list(field: Any) -> str:
    return f"list of {', '.join(field.child.choices)}" if isinstance(field.child, bodies.Choice) else "list of texts"


_KINDS: tuple[tuple[type[Any], Callable[[Any], str]], ...] = (
    (bodies.Choice, lambda field: f"one of {', '.join(field.choices)}"),
    (bodies.List, _list),
    (bodies.Text, lambda field: f"text of at most {field.max_length} characters" if field.max_length else "text"),
    (bodies.Integer, lambda field: f"whole number, {field.min_value} or more"),
    (bodies.Credits, lambda _: "number of credits"),
    (bodies.Moment, lambda _: "date such as 2026-11-25, or time such as 2026-11-25T10:00:00Z"),
)
