"""Visitors of the console: people by their sessions, and what is there for them to find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from allauth.account.models import EmailAddress
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client

from billing.models import Membership, Workspace
from chat.loading.chains import set_chain
from chat.models import CatalogModel, Price, Provider, Target
from tests.worlds import World, make_member

Visit = Callable[..., HttpResponse]


def visiting(client: Client, workspace: Workspace) -> Visit:
    """Asks for a page of the workspace; with values, sends them as a form."""

    def visit(path: str, values: dict[str, Any] | None = None, **options: Any) -> HttpResponse:
        url = path if path.startswith("/") else f"/console/{workspace.public_id}/{path}"
        response: Any = client.get(url, **options) if values is None else client.post(url, values, **options)
        return cast("HttpResponse", response)

    return visit


@pytest.fixture
def people(acme: World) -> dict[str, Membership]:
    """One member of acme in each role."""
    return {role: make_member(acme.workspace, role) for role in Membership.Role.values}


@pytest.fixture
def as_role(acme: World, people: dict[str, Membership]) -> Callable[[str], Visit]:
    def signed_in(role: str) -> Visit:
        client = Client()
        client.force_login(people[role].user)
        return visiting(client, acme.workspace)

    return signed_in


@pytest.fixture
def two_models(db: None) -> list[CatalogModel]:
    """`asked`, whose chain of the catalogue is `other`; both can be called."""
    sandbox = Provider.objects.create(slug="sandbox", dialect="openai", base_url="sandbox:")
    rows = []
    for slug in ("asked", "other"):
        row = CatalogModel.objects.create(slug=slug, name=slug, owned_by="tests", context_window=1000, max_output_tokens=100)
        Target.objects.create(model=row, provider=sandbox, upstream_model="echo")
        Price.objects.create(model=row, input_microcredits=1, output_microcredits=2)
        rows.append(row)
    set_chain(rows[0], rows[1:], actor="tests")
    return rows


@pytest.fixture
def verified(db: None) -> Callable[[str], User]:
    """A person who has proved to have this mail address."""

    def person(email: str) -> User:
        user = User.objects.create_user(email.partition("@")[0], email)
        EmailAddress.objects.create(user=user, email=email, verified=True, primary=True)
        return user

    return person
