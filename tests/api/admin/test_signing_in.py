"""Signing in to the staff admin: a password alone opens nothing; the first log-in sets up the second factor."""

from __future__ import annotations

import json
import re

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from billing.models import AuditEvent, Workspace
from infery_site.signin.policy import OF_ADMIN, STRICT
from tests.api.admin.pages import sign_in, text_of, url

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("forgotten_attempts")]

PASSWORD = "correct horse battery"


@pytest.fixture
def grace(db) -> User:
    return User.objects.create_superuser("grace", password=PASSWORD)


def code_of(secret: str, ago: int = 0) -> str:
    """The digits that an app shows now, or showed some half minutes ago."""
    counters = list(yield_hotp_counters_from_time())
    digits: str = format_hotp_value(hotp_value(secret, counters[len(counters) // 2] - ago))
    return digits


def log_in(client: Client, user: str = "grace", password: str = PASSWORD, page: str = "/admin/"):
    return client.post(reverse("account_login"), {"login": user, "password": password, "next": page}, follow=True)


def enrol(client: Client) -> str:
    """Sets up the second factor of who has just logged in; its secret."""
    page = client.get(reverse("mfa_activate_totp"))
    secret: str = page.context["form"].secret
    answer = client.post(reverse("mfa_activate_totp"), {"code": code_of(secret)}, follow=True)
    assert answer.redirect_chain[-1][0] == reverse("mfa_view_recovery_codes")
    return secret


def test_the_first_log_in_sets_up_the_second_factor_and_opens_the_admin(client, grace):
    assert client.get("/admin/", follow=True).redirect_chain[-1][0] == "/accounts/login/?next=%2Fadmin%2F"
    answer = log_in(client)
    assert answer.redirect_chain[-1][0].startswith(reverse("mfa_activate_totp"))
    assert "Set up your second factor" in text_of(answer)
    assert client.get(url(Workspace)).status_code == 302
    secret = enrol(client)
    codes = client.get(reverse("mfa_view_recovery_codes"))
    assert len(re.findall(r"\b\d{8}\b", codes.content.decode())) == 10
    assert client.get("/admin/").status_code == 200
    stored = json.dumps(list(Authenticator.objects.values_list("data", flat=True)))
    assert secret not in stored


@pytest.mark.parametrize(
    ("shown", "leads_to"),
    [("http://testserver/admin/billing/workspace/?q=a", "%2Fadmin%2Fbilling%2Fworkspace%2F%3Fq%3Da"), ("/x", "%2Fadmin%2F")],
)
def test_the_page_around_a_part_is_left_for_the_step_that_somebody_lacks(client, grace, shown, leads_to):
    headers = {"HX-Request": "true", "HX-Current-URL": shown}
    for step in ("account_login", "mfa_activate_totp"):
        answer = client.get(reverse("admin:search") + "?s=a", headers=headers, follow=True)
        assert (answer.status_code, answer["hx-redirect"]) == (204, f"{reverse(step)}?next={leads_to}")
        client.force_login(grace)


def test_the_account_that_the_first_start_makes_gets_in(client, db, capsys):
    call_command("prepare", json=True)
    made = json.loads(capsys.readouterr().out.splitlines()[-1])
    answer = log_in(client, made["admin_user"], made["admin_password"])
    assert answer.redirect_chain[-1][0].startswith(reverse("mfa_activate_totp"))
    enrol(client)
    assert client.get("/admin/").status_code == 200


def test_later_log_ins_take_password_and_code(client, grace):
    secret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
    TOTP.activate(grace, secret)
    answer = log_in(client)
    assert answer.redirect_chain[-1][0].startswith(reverse("mfa_authenticate"))
    assert client.get("/admin/").status_code == 302
    assert "Incorrect code" in text_of(client.post(reverse("mfa_authenticate"), {"code": "000000"}))
    assert client.get("/admin/").status_code == 302
    answer = client.post(reverse("mfa_authenticate"), {"code": code_of(secret)}, follow=True)
    assert answer.redirect_chain[-1][0] == "/admin/"
    assert answer.status_code == 200


def test_a_recovery_code_opens_once(client, grace):
    TOTP.activate(grace, "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
    code = RecoveryCodes.activate(grace).get_unused_codes()[0]
    log_in(client)
    assert client.post(reverse("mfa_authenticate"), {"code": code}, follow=True).redirect_chain[-1][0] == "/admin/"
    other = Client()
    log_in(other)
    assert "Incorrect code" in text_of(other.post(reverse("mfa_authenticate"), {"code": code}))


def test_a_session_by_password_alone_gains_nothing_when_the_factor_is_set_up_elsewhere(client, grace):
    thief = Client()
    log_in(thief)
    log_in(client)
    enrol(client)
    assert client.get("/admin/").status_code == 200
    answer = thief.get("/admin/", follow=True)
    assert answer.redirect_chain[-1][0].startswith(reverse("mfa_reauthenticate"))
    assert thief.get(url(Workspace)).status_code == 302
    assert thief.get(reverse("mfa_deactivate_totp")).status_code == 302
    assert thief.get(reverse("mfa_view_recovery_codes"), follow=True).redirect_chain


def test_a_session_loses_the_admin_with_the_factor(client, grace):
    sign_in(client, grace)
    assert client.get("/admin/").status_code == 200
    Authenticator.objects.filter(user=grace).delete()
    assert client.get("/admin/").status_code == 302


def test_the_factor_of_another_person_does_not_count(client, grace):
    sign_in(client, grace)
    session = dict(client.session)
    eve = User.objects.create_superuser("eve", password=PASSWORD)
    log_in(client := Client(), "eve")
    stolen = client.session
    stolen["account_authentication_methods"] = session["account_authentication_methods"]
    stolen.save()
    assert client.get("/admin/").status_code == 302
    assert not Authenticator.objects.filter(user=eve).exists()


def test_an_old_log_in_has_to_give_its_password_again_before_it_sets_up_a_factor(client, grace):
    log_in(client)
    session = client.session
    session["account_authentication_methods"][0]["at"] -= 3600
    session.save()
    answer = client.get(reverse("mfa_activate_totp"), follow=True)
    assert answer.redirect_chain[-1][0].startswith(reverse("account_reauthenticate"))


def test_customers_get_no_admin(client, db):
    User.objects.create_user("customer", password=PASSWORD)
    assert log_in(client, "customer").status_code == 403
    page = Client()
    assert "Ask the staff" in text_of(page.get(reverse("account_email")))
    assert page.post(reverse("account_email"), {"email": "me@example.org"}).status_code == 405


def test_an_inactive_person_gets_nowhere(client, grace):
    User.objects.update(is_active=False)
    log_in(client)
    assert client.get("/admin/").status_code == 302


@pytest.mark.parametrize("name", ["grace", "nobody"])
def test_row_146_guessing_ends_soon_and_tells_nothing(client, grace, name):
    answers = [client.post(reverse("account_login"), {"login": name, "password": f"guess {number}"}) for number in range(12)]
    texts = [text_of(answer) for answer in answers]
    assert "not correct" in texts[0]
    assert "Too many failed" in texts[-1]
    assert sum("not correct" in text for text in texts) <= 10
    if name == "grace":
        assert "Too many" in text_of(log_in(client))


def test_guessing_codes_ends_soon(client, grace):
    TOTP.activate(grace, "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
    log_in(client)
    texts = [text_of(client.post(reverse("mfa_authenticate"), {"code": f"{number:06}"})) for number in range(12)]
    assert "Too many" in texts[-1]
    assert client.get("/admin/").status_code == 302


def test_after_the_log_in_nobody_is_sent_to_another_site(client, grace):
    answer = log_in(client, page="https://evil.example.org/")
    assert all("evil" not in place for place, _ in answer.redirect_chain)


def test_pages_say_what_browsers_may_run(client, grace):
    assert client.get(reverse("account_login"))["content-security-policy"] == STRICT
    sign_in(client, grace)
    assert client.get("/admin/")["content-security-policy"] == OF_ADMIN
    assert "content-security-policy" not in client.get("/v1/models")
    for policy in (STRICT, OF_ADMIN):
        assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
        assert "http" not in policy


def test_a_superuser_resets_a_lost_second_factor(client, grace):
    ben = User.objects.create_user("ben", is_staff=True)
    lost = Client()
    sign_in(lost, ben)
    assert lost.get("/admin/").status_code == 200
    sign_in(client, grace)
    assert "sets up a new second factor" in text_of(
        client.post(url(ben, "reset_second_factor"), {"reason": "lost"}, follow=True)
    )
    assert lost.get("/admin/").status_code == 302
    event = AuditEvent.objects.get(action="user.second_factor_reset")
    assert (event.actor, event.target, event.reason) == ("staff:grace", "ben", "lost")
    assert "has no second factor" in text_of(client.post(url(ben, "reset_second_factor"), {"reason": "again"}, follow=True))


def test_what_is_done_to_accounts_of_staff_is_audited(client, grace):
    sign_in(client, grace)
    values = {"username": "ben", "password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
    assert client.post(reverse("admin:auth_user_add"), values).status_code == 302
    ben = User.objects.get(username="ben")
    moment = {"date_joined_0": "2026-11-28", "date_joined_1": "10:00:00"}
    changed = {"username": "ben", "is_active": "on", "is_staff": "on", "is_superuser": "on"} | moment
    assert client.post(url(ben, "change"), changed).status_code == 302
    assert client.post(url(ben, "delete"), {"post": "yes"}).status_code == 302
    events = list(AuditEvent.objects.filter(target="ben").order_by("pk"))
    assert [event.action for event in events] == ["user.created", "user.changed", "user.deleted"]
    assert [event.details["is_superuser"] for event in events] == [False, True, True]
