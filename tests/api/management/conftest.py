"""Callers of the management API: people by their sessions, programs by their keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from billing.apikeys import KeyTerms, mint
from billing.models import ApiKey, Membership, Workspace
from tests.worlds import ACTOR, World, make_member

Ask = Callable[..., HttpResponse]


def asking(client: Client, workspace: Workspace, headers: dict[str, str] | None = None) -> Ask:
    """Asks below the workspace, or with `path=None` above all of them, with a JSON body if there is one."""

    def ask(method: str, path: str | None = "", body: Any = None, **more: str) -> HttpResponse:
        options: dict[str, Any] = {
            "headers": {**(headers or {}), **{name.replace("_", "-"): value for name, value in more.items()}}
        }
        if body is not None:
            options |= {"data": body if isinstance(body, bytes) else json.dumps(body), "content_type": "application/json"}
        below = "" if path is None else f"/{workspace.public_id}{path}"
        response: HttpResponse = getattr(client, method)(f"/api/workspaces{below}", **options)
        return response

    return ask


@pytest.fixture
def people(acme: World) -> dict[str, Membership]:
    """One member of acme in each role."""
    return {role: make_member(acme.workspace, role) for role in Membership.Role.values}


@pytest.fixture
def as_member() -> Callable[[Membership], Ask]:
    def signed_in(member: Membership) -> Ask:
        client = Client()
        client.force_login(member.user)
        return asking(client, member.workspace)

    return signed_in


@pytest.fixture
def as_role(people: dict[str, Membership], as_member: Callable[[Membership], Ask]) -> Callable[[str], Ask]:
    return lambda role: as_member(people[role])


@pytest.fixture
def own_key_of() -> Callable[[Membership], ApiKey]:
    """A new key that belongs to this member, whatever his role."""

    def new_key(member: Membership) -> ApiKey:
        key, _ = mint(member.workspace, "own", actor=ACTOR)
        ApiKey.objects.filter(pk=key.pk).update(owner=member)
        return key

    return new_key


@pytest.fixture
def as_key(acme: World) -> Callable[..., Ask]:
    """A program with a new key of acme that has these scopes."""

    def with_key(*scopes: str, workspace: Workspace | None = None, **terms: Any) -> Ask:
        home = workspace or acme.workspace
        _, text = mint(home, "program", actor=ACTOR, terms=KeyTerms(scopes=scopes, **terms))
        return asking(Client(), home, {"authorization": f"Bearer {text}"})

    return with_key


def error_of(response: HttpResponse) -> tuple[int, str, str | None]:
    """Status, code and param of a refusal in the envelope."""
    assert response["content-type"] == "application/json; charset=utf-8"
    error = json.loads(response.content)["error"]
    assert set(error) == {"message", "type", "code", "param"}
    return response.status_code, error["code"], error["param"]
