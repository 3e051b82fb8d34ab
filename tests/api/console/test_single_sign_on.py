"""Signing in by an identity provider: who that is here, and who is not let in by it."""

from __future__ import annotations

import httpx
import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth.models import User
from django.core import mail
from django.core.cache import cache

from tests.fakes.identity import CLIENT_ID, CLIENT_SECRET, IdentityProvider

pytestmark = pytest.mark.django_db

LINK = "/accounts/by/oidc/login/?process=login"


@pytest.fixture
def identity(settings):
    cache.clear()
    with IdentityProvider() as provider:
        app = settings.OIDC | {"client_id": CLIENT_ID, "secret": CLIENT_SECRET, "name": "Acme"}
        app["settings"] = {"server_url": provider.url}
        settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": [app]}}
        yield provider


def go(client):
    """By the link, over the provider's page, and back: the answer of the last step."""
    there = client.get(LINK)
    assert there.status_code == 302
    back = httpx.get(there["location"], trust_env=False)
    return client.get(back.headers["location"])


def test_a_new_person_comes_in_with_the_address_that_the_provider_verified(client, identity):
    assert b"Sign in by Acme" in client.get("/accounts/login/").content
    assert go(client)["location"] == "/console/"
    assert client.get("/console/")["location"] == "/console/new"
    user = User.objects.get()
    assert (user.email, user.has_usable_password()) == ("ada@example.com", False)
    assert EmailAddress.objects.get(user=user).verified
    assert set(identity.asked[0]["scope"].split()) == {"openid", "profile", "email"}
    client.logout()
    go(client)
    assert User.objects.count() == SocialAccount.objects.count() == 1
    assert mail.outbox == []


def test_whoever_has_the_verified_address_here_is_that_person(client, identity, verified):
    ada = verified("ada@example.com")
    go(client)
    assert int(client.session["_auth_user_id"]) == ada.pk
    assert User.objects.count() == 1


def test_an_address_that_the_provider_did_not_verify_opens_nobodys_account(client, identity, verified):
    verified("ada@example.com")
    identity.person["email_verified"] = False
    go(client)
    assert "_auth_user_id" not in client.session


def test_an_address_that_nobody_verified_has_to_be_verified_here(client, identity):
    identity.person["email_verified"] = False
    assert go(client)["location"] == "/accounts/confirm-email/"
    assert "_auth_user_id" not in client.session
    assert [message.to for message in mail.outbox] == [["ada@example.com"]]


def test_the_second_factor_is_asked_for_all_the_same(client, identity, verified):
    ada = verified("ada@example.com")
    Authenticator.objects.create(user=ada, type=Authenticator.Type.TOTP, data={"secret": "-"})
    assert go(client)["location"].startswith("/accounts/2fa/authenticate/")
    assert "_auth_user_id" not in client.session


def test_where_staff_make_all_accounts_the_provider_makes_none(client, identity, settings, verified):
    settings.SIGN_UP_IS_OPEN = False
    response = go(client)
    assert b"closed" in response.content.lower()
    assert not User.objects.exists()
    verified("ada@example.com")
    go(client)
    assert "_auth_user_id" in client.session


def test_a_state_of_another_session_opens_nothing(client, identity):
    there = client.get(LINK)
    back = httpx.get(there["location"], trust_env=False).headers["location"]
    client.cookies.clear()
    assert client.get(back).status_code in {200, 401, 403}
    assert "_auth_user_id" not in client.session


def test_whoever_has_no_password_can_set_one(client, identity):
    go(client)
    assert client.get("/accounts/password/change/")["location"] == "/accounts/password/set/"
    assert b'href="/accounts/linked/"' in client.get("/accounts/password/set/").content
    page = client.get("/accounts/linked/").content.decode()
    assert "ada@example.com, by Acme" in page
    # The only way in stays.
    linked = SocialAccount.objects.get()
    assert b"form-errors" in client.post("/accounts/linked/", {"account": linked.pk}).content
    assert SocialAccount.objects.exists()


def test_without_a_provider_there_is_no_button_and_no_door(client):
    assert b"Sign in by" not in client.get("/accounts/login/").content
    assert client.get(LINK).status_code == 404
