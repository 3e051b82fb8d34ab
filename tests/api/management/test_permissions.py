"""Every route and method for every role and scope: one cell each (K7). A route that is not in the table fails the suite."""

import pytest
from django.db import transaction

from billing.api.management_urls import urlpatterns
from billing.models import Budget
from billing.permissions import TABLE, Action, Grant, grant_of_role, grant_of_scopes, may_give
from billing.presets import create_preset, set_plan
from billing.quotas import Limits
from tests.api.management.conftest import error_of
from tests.worlds import ACTOR, make_member

pytestmark = pytest.mark.django_db

ROLES = ("owner", "admin", "developer", "billing", "viewer")
SCOPES = ("keys:manage", "workspace:manage", "chat", "usage:read")

WHO = (*ROLES, *SCOPES)

BUDGET = {"period": "day", "limit": 5}
BODIES = {
    "": None,
    "name": {"name": "new"},
    "preset": {"preset": None},
    "overlap": {"overlap": "1h"},
    "viewer": {"email": "newcomer@example.com", "role": "viewer"},
    "owner": {"email": "newcomer@example.com", "role": "owner"},
    "payer": {"email": "newcomer@example.com", "role": "billing"},
    "role": {"role": "viewer"},
    "pays": {"role": "billing"},
    "transfer": {"role": "owner"},
}

# Route and method, path (of the object acted on), body; then owner, admin, developer, billing, viewer, and the scopes
# keys:manage, workspace:manage, chat, usage:read. {key} is nobody's key, {own} the caller's, {member} a developer, {preset}
# the workspace's, {shared} one for every workspace, {plan} the workspace's and its plan.
CELLS = """
    workspaces GET          -                                                 200 200 200 200 200  200 200 403 403
    workspace GET           /                                                 200 200 200 200 200  200 200 403 403
    workspace PATCH         /                      name                       200 200 403 403 403  403 200 403 403
    presets GET             /presets                                          200 200 200 200 200  200 200 403 403
    presets POST            /presets               name                       201 201 403 403 403  403 201 403 403
    preset GET              /presets/{preset}                                 200 200 200 200 200  200 200 403 403
    preset GET              /presets/{shared}                                 200 200 200 200 200  200 200 403 403
    preset PATCH            /presets/{preset}      name                       200 200 403 403 403  403 200 403 403
    preset PATCH            /presets/{shared}      name                       403 403 403 403 403  403 403 403 403
    preset PATCH            /presets/{plan}        name                       403 403 403 403 403  403 403 403 403
    budgets GET             /budgets                                          200 200 200 200 200  403 200 403 403
    budgets PUT             /budgets               workspace                  200 200 403 200 403  403 200 403 403
    budgets PUT             /budgets               member                     200 200 403 200 403  403 200 403 403
    budgets PUT             /budgets               key                        200 200 404 200 403  403 200 403 403
    budgets PUT             /budgets               own                        200 200 200 200 403  403 200 403 403
    keys GET                /keys                                             200 200 200 403 200  200 403 403 403
    keys POST               /keys                  name                       201 201 201 403 403  201 403 403 403
    key-detail GET          /keys/{key}                                       200 200 404 403 200  200 403 403 403
    key-detail GET          /keys/{own}                                       200 200 200 403 200  200 403 403 403
    key-detail PATCH        /keys/{key}            name                       200 200 404 403 403  200 403 403 403
    key-detail PATCH        /keys/{own}            name                       200 200 200 403 403  200 403 403 403
    key-detail PATCH        /keys/{own}            preset                     200 200 403 403 403  403 403 403 403
    key-detail DELETE       /keys/{key}                                       200 200 404 403 403  200 403 403 403
    key-detail DELETE       /keys/{own}                                       200 200 200 403 403  200 403 403 403
    key-roll POST           /keys/{key}/roll       overlap                    201 201 404 403 403  201 403 403 403
    key-roll POST           /keys/{own}/roll       overlap                    201 201 201 403 403  201 403 403 403
    members GET             /members                                          200 200 200 200 200  403 200 403 403
    members POST            /members               viewer                     201 201 403 403 403  403 201 403 403
    members POST            /members               owner                      400 403 403 403 403  403 403 403 403
    members POST            /members               payer                      201 403 403 403 403  403 403 403 403
    member GET              /members/{member}                                 200 200 200 200 200  403 200 403 403
    member PATCH            /members/{member}      role                       200 200 403 403 403  403 200 403 403
    member PATCH            /members/{member}      pays                       200 403 403 403 403  403 403 403 403
    member PATCH            /members/{self}        pays                       400 403 403 403 403  403 400 403 403
    member PATCH            /members/{member}      transfer                   200 403 403 403 403  403 403 403 403
    member PATCH            /members/{member}      preset                     200 200 403 403 403  403 200 403 403
    member DELETE           /members/{member}                                 200 200 403 403 403  403 200 403 403
    member DELETE           /members/{self}                                   400 200 200 200 200  403 400 403 403
"""


def cells_of(who):
    """Method, path, name of the body and status of each row."""
    for line in CELLS.strip().splitlines():
        _, method, path, *rest = line.split()
        statuses, body = rest[-len(WHO) :], "".join(rest[: -len(WHO)])
        yield method, path, body, int(statuses[WHO.index(who)])


def body_of(name, path, objects):
    if path == "/budgets" and name:
        scope = "key" if name == "own" else name
        return {**BUDGET, "scope": scope, **({} if name == "workspace" else {"scope_id": objects[name]})}
    return BODIES[name]


def plan_of(workspace):
    plan = create_preset("plan", Limits(), actor=ACTOR, workspace=workspace)
    set_plan(workspace, plan, actor=ACTOR)
    return plan


@pytest.mark.slow
@pytest.mark.parametrize("who", WHO)
def test_each_role_and_scope_gets_where_the_table_says_and_nowhere_else(who, acme, people, as_role, as_key, own_key_of):
    ask = as_role(who) if who in ROLES else as_key(who)
    # What a key does is not its owner's, so what is the caller's own is here the owner's of the workspace.
    myself = people[who] if who in ROLES else people["owner"]
    objects = {
        "key": acme.key.public_id,
        "own": own_key_of(myself).public_id,
        "member": make_member(acme.workspace, "developer", username="colleague").public_id,
        "self": myself.public_id,
        "preset": create_preset("own", Limits(), actor=ACTOR, workspace=acme.workspace).public_id,
        "shared": create_preset("shared", Limits(), actor=ACTOR).public_id,
        "plan": plan_of(acme.workspace).public_id,
    }
    expected, statuses = {}, {}
    for method, path, body, status in cells_of(who):
        place = {"-": None, "/": ""}.get(path, path.format(**objects))
        with transaction.atomic():  # what a cell does to rows is undone
            response = ask(method.lower(), place, body_of(body, path, objects))
            transaction.set_rollback(True)
        expected[method, path, body], statuses[method, path, body] = status, response.status_code
        if response.status_code >= 400:
            error_of(response)
    assert statuses == expected


def test_every_route_and_method_is_in_the_table():
    listed = {tuple(line.split()[:2]) for line in CELLS.strip().splitlines()}
    offered = set()
    for pattern in urlpatterns:
        view = pattern.callback.cls
        handled = {method.upper() for method in ("get", "post", "put", "patch", "delete") if hasattr(view, method)}
        assert handled == set(getattr(view, "actions", {"GET": None})), pattern.name
        offered |= {(pattern.name, method) for method in handled}
    assert listed == offered
    assert len(offered) == 20


def test_the_table_of_permissions_is_whole():
    assert set(TABLE) == set(Action)
    for action in Action:
        assert {grant_of_role(action, role) for role in ROLES} <= set(Grant)
        assert grant_of_role(action, "owner") is Grant.ALL
        assert grant_of_scopes(action, frozenset({"chat", "usage:read", "files:read", "files:write"})) is Grant.NONE
    with pytest.raises(ValueError, match="king"):
        grant_of_role(Action.READ_KEYS, "king")


# Whose role may do all that another may.
MAY_BE_GIVEN = {
    "owner": set(ROLES),
    "admin": {"admin", "developer", "viewer"},
    "developer": {"developer"},
    "billing": {"billing"},
    "viewer": {"viewer"},
}


@pytest.mark.parametrize("giver", ROLES)
def test_row_148_nobody_gives_a_role_that_may_do_what_he_may_not(giver):
    assert {role for role in ROLES if may_give(giver, role)} == MAY_BE_GIVEN[giver]


def test_what_is_refused_changes_nothing(acme, as_role):
    for who in ("billing", "viewer"):
        assert as_role(who)("post", "/keys", BODIES["name"]).status_code == 403
        assert as_role(who)("delete", f"/keys/{acme.key.public_id}").status_code == 403
    assert as_role("viewer")("put", "/budgets", {**BUDGET, "scope": "workspace"}).status_code == 403
    assert list(acme.workspace.api_keys.values_list("revoked_at", flat=True)) == [None]
    assert not Budget.objects.exists()
