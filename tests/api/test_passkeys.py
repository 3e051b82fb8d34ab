"""Passkeys: who gets in by one, alone or after the password, what they open to staff, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP
from django.contrib.auth.models import User
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import NoReverseMatch, reverse

from infery_site.signin.passkeys import CREDENTIAL_CHARACTERS, NAME_LENGTH, PASSKEYS_OF_A_PERSON
from tests.api.admin.pages import sign_in, text_of, url
from tests.fakes.passkeys import Device, add_passkey, options_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("forgotten_attempts")]

PASSWORD = "correct horse battery"
REFUSED = "This passkey was not accepted"


@pytest.fixture
def ada(db) -> User:
    """A customer."""
    user = User.objects.create_user("ada", "ada@example.com", PASSWORD)
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return user


@pytest.fixture
def grace(db) -> User:
    return User.objects.create_superuser("grace", password=PASSWORD)


def browser(**options: Any) -> Client:
    return Client(SERVER_NAME="localhost", **options)


def log_in(who: str, page: str = "/console/") -> tuple[Client, Any]:
    """A new browser after the password, and where that led."""
    client = browser()
    return client, client.post(reverse("account_login"), {"login": who, "password": PASSWORD, "next": page}, follow=True)


def with_passkey(who: str, device: Device, **options: Any) -> Client:
    client, _ = log_in(who)
    assert add_passkey(client, device, **options).status_code == 302
    return client


def sign_in_by(device: Device, client: Client | None = None, **sent: str) -> tuple[Client, Any]:
    """By the button of the page, and where that led."""
    client = client or browser()
    options = client.get(reverse("mfa_login_webauthn"), headers={"accept": "application/json"}).json()["request_options"]
    credential = json.dumps(device.use(options))
    return client, client.post(reverse("mfa_login_webauthn"), {"credential": credential} | sent, follow=True)


def is_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def last_page(answer: Any) -> str:
    path: str = answer.redirect_chain[-1][0]
    return path.partition("?")[0]


def test_a_person_has_several_by_name_and_recovery_codes_for_all_of_them(ada):
    client, _ = log_in("ada")
    added = add_passkey(client, Device(), name="Laptop")
    assert added["location"] == reverse("mfa_view_recovery_codes")
    assert client.get(added["location"]).status_code == 200
    codes = Authenticator.objects.get(type=Authenticator.Type.RECOVERY_CODES)
    assert add_passkey(client, Device(), name="", signs_in_alone=False)["location"] == reverse("mfa_index")
    page = text_of(client.get(reverse("mfa_index")))
    assert "<b>Laptop</b>" in page
    assert "<b>Passkey 1</b>" in page
    assert (page.count("Signs in alone."), page.count("After the password."), page.count("Passkey added.")) == (1, 1, 1)
    assert "10 of 10 are left" in page
    laptop, other = Authenticator.objects.filter(type=Authenticator.Type.WEBAUTHN).order_by("pk")
    client.post(reverse("mfa_edit_webauthn", args=[laptop.pk]), {"name": "Work laptop"})
    assert "<b>Work laptop</b>" in text_of(client.get(reverse("mfa_list_webauthn"), follow=True))
    assert "your only second factor" not in text_of(client.get(reverse("mfa_remove_webauthn", args=[laptop.pk])))
    client.post(reverse("mfa_remove_webauthn", args=[laptop.pk]))
    assert set(Authenticator.objects.values_list("pk", flat=True)) == {codes.pk, other.pk}
    assert mail.outbox == []


def test_it_signs_in_alone_and_leads_to_where_the_person_was_going(ada):
    device = Device()
    with_passkey("ada", device)
    client, answer = sign_in_by(device)
    assert is_in(client)
    assert last_page(answer) == "/console/new"
    assert Authenticator.objects.get(type=Authenticator.Type.WEBAUTHN).last_used_at is not None
    _, answer = sign_in_by(device, next=reverse("mfa_index"))
    assert last_page(answer) == reverse("mfa_index")
    _, answer = sign_in_by(device, next="https://evil.example.org/")
    assert all("evil" not in place for place, _ in answer.redirect_chain)


def test_after_the_password_it_is_the_second_factor(ada):
    device = Device()
    with_passkey("ada", device)
    client, answer = log_in("ada", "/console/")
    assert last_page(answer) == reverse("mfa_authenticate")
    assert not is_in(client)
    assert "six digits" not in text_of(answer)
    stranger = client.post(reverse("mfa_authenticate"), {"credential": json.dumps(Device().use(options_of(answer)))})
    assert REFUSED in text_of(stranger)
    assert not is_in(client)
    asked = options_of(stranger)
    client.post(reverse("mfa_authenticate"), {"credential": json.dumps(device.use(asked))})
    assert is_in(client)


def test_who_has_none_is_asked_for_the_code_only(ada):
    TOTP.activate(ada, "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
    _, answer = log_in("ada")
    assert "six digits" in text_of(answer)
    assert "passkey" not in text_of(answer)


def test_a_recovery_code_opens_where_the_passkey_is_lost(ada):
    client = with_passkey("ada", Device())
    code = client.get(reverse("mfa_view_recovery_codes")).context["unused_codes"][0]
    client, _ = log_in("ada")
    client.post(reverse("mfa_authenticate"), {"code": code})
    assert is_in(client)


def test_one_whose_device_asks_for_nothing_is_a_second_factor_and_no_more(ada):
    key = Device(verifies=False)
    client, _ = log_in("ada")
    refused = add_passkey(client, key)
    assert refused.status_code == 200
    assert REFUSED in text_of(refused)
    assert not Authenticator.objects.exists()
    assert add_passkey(client, key, signs_in_alone=False).status_code == 302
    alone, answer = sign_in_by(key)
    assert not is_in(alone)
    assert REFUSED in text_of(answer)
    client, answer = log_in("ada")
    client.post(reverse("mfa_authenticate"), {"credential": json.dumps(key.use(options_of(answer)))})
    assert is_in(client)


def test_staff_with_a_passkey_only_get_into_the_admin(grace):
    device = Device()
    client, answer = log_in("grace", "/admin/")
    assert f'href="{reverse("mfa_add_webauthn")}"' in text_of(answer)
    assert client.get("/admin/").status_code == 302
    add_passkey(client, device)
    assert client.get("/admin/").status_code == 200
    alone, answer = sign_in_by(device, next="/admin/")
    assert (last_page(answer), alone.get(url(User)).status_code) == ("/admin/", 200)
    client, answer = log_in("grace", "/admin/")
    assert client.get("/admin/").status_code == 302
    answer = client.post(reverse("mfa_authenticate"), {"credential": json.dumps(device.use(options_of(answer)))}, follow=True)
    assert (last_page(answer), answer.status_code) == ("/admin/", 200)


def test_a_session_by_a_passkey_that_was_removed_loses_the_admin_though_other_factors_are_left(grace):
    lost, kept = Device(), Device()
    client = with_passkey("grace", kept, name="kept")
    add_passkey(client, lost, name="lost")
    stolen, _ = sign_in_by(lost)
    assert stolen.get("/admin/").status_code == 200
    row = next(one for one in Authenticator.objects.filter(type=Authenticator.Type.WEBAUTHN) if str(one) == "lost")
    client.post(reverse("mfa_remove_webauthn", args=[row.pk]))
    assert client.get("/admin/").status_code == 200
    assert last_page(stolen.get("/admin/", follow=True)) == reverse("mfa_reauthenticate_webauthn")
    assert not is_in(sign_in_by(lost)[0])


def test_who_lost_all_but_recovery_codes_can_make_new_ones_and_go_on(grace):
    client = with_passkey("grace", Device())
    code = client.get(reverse("mfa_view_recovery_codes")).context["unused_codes"][0]
    client, _ = log_in("grace", "/admin/")
    client.post(reverse("mfa_authenticate"), {"code": code})
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    assert client.post(reverse("mfa_generate_recovery_codes")).status_code == 302
    assert len(client.get(reverse("mfa_view_recovery_codes")).context["unused_codes"]) == 10
    assert client.get("/admin/").status_code == 200


def test_the_last_factor_of_staff_closes_the_admin_with_it(grace):
    client = with_passkey("grace", Device())
    row = Authenticator.objects.get(type=Authenticator.Type.WEBAUTHN)
    page = text_of(client.get(reverse("mfa_remove_webauthn", args=[row.pk])))
    assert "your only second factor" in page
    assert "The staff admin stays closed" in page
    client.post(reverse("mfa_remove_webauthn", args=[row.pk]))
    assert not Authenticator.objects.exists()
    assert last_page(client.get("/admin/", follow=True)) == reverse("mfa_activate_totp")


def test_an_app_beside_it_keeps_the_admin_and_the_codes(grace):
    client = with_passkey("grace", Device())
    TOTP.activate(grace, "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
    row = Authenticator.objects.get(type=Authenticator.Type.WEBAUTHN)
    client.post(reverse("mfa_remove_webauthn", args=[row.pk]))
    assert set(Authenticator.objects.values_list("type", flat=True)) == {"totp", "recovery_codes"}
    answer = client.get("/admin/", follow=True)
    assert last_page(answer) == reverse("mfa_reauthenticate")
    assert "six digits" in text_of(answer)


@pytest.mark.parametrize("has_confirmed", [False, True])
def test_a_thief_of_the_password_gains_no_factor_by_it(grace, has_confirmed):
    """His session is older than the factor; he gave the password again before it was made, or tries to afterwards."""
    thief, _ = log_in("grace")
    if has_confirmed:
        thief.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    with_passkey("grace", Device())
    before = set(Authenticator.objects.values_list("pk", flat=True))
    passkey = Authenticator.objects.get(type=Authenticator.Type.WEBAUTHN)
    asked = thief.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    assert asked["location"] == reverse("mfa_reauthenticate_webauthn")
    for name in ("mfa_add_webauthn", "mfa_activate_totp", "mfa_view_recovery_codes", "mfa_generate_recovery_codes"):
        assert last_page(thief.get(reverse(name), follow=True)) == reverse("mfa_reauthenticate_webauthn")
    assert thief.post(reverse("mfa_remove_webauthn", args=[passkey.pk])).status_code == 302
    assert set(Authenticator.objects.values_list("pk", flat=True)) == before
    assert thief.get("/admin/").status_code == 302


def test_it_confirms_who_somebody_is(ada):
    device = Device()
    with_passkey("ada", device)
    client, _ = sign_in_by(device)
    asked = client.get(reverse("mfa_add_webauthn"), follow=True)
    assert last_page(asked) == reverse("account_reauthenticate")
    page = f"{reverse('mfa_reauthenticate_webauthn')}?next={reverse('mfa_add_webauthn')}"
    assert f'href="{page}"'.replace("/", "%2F") in text_of(asked).replace("/", "%2F")
    sent = {"credential": json.dumps(Device().use(options_of(client.get(page)))), "next": reverse("mfa_add_webauthn")}
    refused = client.post(reverse("mfa_reauthenticate_webauthn"), sent, follow=True)
    assert REFUSED in text_of(refused)
    sent["credential"] = json.dumps(device.use(options_of(refused)))
    answer = client.post(reverse("mfa_reauthenticate_webauthn"), sent, follow=True)
    assert (last_page(answer), answer.status_code) == (reverse("mfa_add_webauthn"), 200)


def test_an_old_session_confirms_itself_before_it_adds_one(ada):
    client, _ = log_in("ada")
    session = client.session
    session["account_authentication_methods"][0]["at"] -= 3600
    session.save()
    assert last_page(client.get(reverse("mfa_add_webauthn"), follow=True)) == reverse("account_reauthenticate")
    assert client.post(reverse("mfa_add_webauthn"), {"credential": "{}"}).status_code == 302


@pytest.mark.parametrize(
    ("host", "origin", "is_secure"),
    [
        ("localhost", "http://localhost:8000", False),
        ("gateway.example.com", "https://gateway.example.com", True),
        ("gateway.example.com:8443", "https://gateway.example.com:8443", True),
    ],
)
def test_it_belongs_to_the_host_that_was_asked(ada, settings, host, origin, is_secure):
    settings.ALLOWED_HOSTS = ["localhost", "gateway.example.com"]
    client = Client(headers={"host": host})
    client.post(reverse("account_login"), {"login": "ada", "password": PASSWORD}, secure=is_secure)
    page = client.get(reverse("mfa_add_webauthn"), secure=is_secure)
    asked = options_of(page, "creation_options")
    assert asked["publicKey"]["rp"] == {"id": host.partition(":")[0], "name": "Gateway"}
    sent = {"name": "", "credential": json.dumps(Device(origin).make(asked))}
    assert client.post(reverse("mfa_add_webauthn"), sent, secure=is_secure).status_code == 302
    assert Authenticator.objects.filter(type=Authenticator.Type.WEBAUTHN).exists()


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost", "http://evil.example.org"),
        ("localhost", "https://localhost.evil.example.org"),
        ("gateway.example.com", "http://gateway.example.com"),
        ("gateway.example.com", "https://evil.example.com"),
        ("127.0.0.1", "http://127.0.0.1"),
        ("[::1]", "http://[::1]"),
    ],
)
def test_no_other_origin_adds_or_uses_one(ada, settings, host, origin):
    settings.ALLOWED_HOSTS = [host]
    client = Client(headers={"host": host})
    client.post(reverse("account_login"), {"login": "ada", "password": PASSWORD})
    asked = options_of(client.get(reverse("mfa_add_webauthn")), "creation_options")
    answer = client.post(reverse("mfa_add_webauthn"), {"name": "", "credential": json.dumps(Device(origin).make(asked))})
    assert REFUSED in text_of(answer)
    assert not Authenticator.objects.exists()


def test_no_other_origin_signs_in(ada):
    device = Device()
    with_passkey("ada", device)
    device.origin = "https://evil.example.org"
    assert not is_in(sign_in_by(device)[0])


def test_an_answer_counts_once_and_in_its_own_session(ada):
    device = Device()
    with_passkey("ada", device)
    client = browser()
    options = client.get(reverse("mfa_login_webauthn"), headers={"accept": "application/json"}).json()["request_options"]
    sent = {"credential": json.dumps(device.use(options))}
    other = browser()
    other.get(reverse("mfa_login_webauthn"), headers={"accept": "application/json"})
    for stranger in (browser(), other):
        stranger.post(reverse("mfa_login_webauthn"), sent)
        assert not is_in(stranger)
    client.post(reverse("mfa_login_webauthn"), sent)
    assert is_in(client)
    client.logout()
    client.post(reverse("mfa_login_webauthn"), sent)
    assert not is_in(client)


def test_nobody_uses_or_changes_that_of_another(ada, grace):
    mine, theirs = Device(), Device()
    with_passkey("ada", mine)
    client = with_passkey("grace", theirs)
    row = Authenticator.objects.get(user=ada, type=Authenticator.Type.WEBAUTHN)
    for name in ("mfa_edit_webauthn", "mfa_remove_webauthn"):
        assert client.post(reverse(name, args=[row.pk]), {"name": "taken"}).status_code == 404
    mine.user_handle = theirs.user_handle
    assert not is_in(sign_in_by(mine)[0])
    second, answer = log_in("ada")
    second.post(reverse("mfa_authenticate"), {"credential": json.dumps(theirs.use(options_of(answer)))})
    assert not is_in(second)


def test_an_inactive_person_gets_nowhere_by_one(ada):
    device = Device()
    with_passkey("ada", device)
    User.objects.update(is_active=False)
    assert not is_in(sign_in_by(device)[0])


def test_a_superuser_resets_passkeys_too(grace):
    ben = User.objects.create_user("ben", password=PASSWORD, is_staff=True)
    device = Device()
    lost = with_passkey("ben", device)
    assert lost.get("/admin/").status_code == 200
    client = browser()
    sign_in(client, grace)
    client.post(url(ben, "reset_second_factor"), {"reason": "lost"})
    assert not Authenticator.objects.filter(user=ben).exists()
    assert lost.get("/admin/").status_code == 302
    assert not is_in(sign_in_by(device)[0])


def test_nobody_signs_up_by_one():
    with pytest.raises(NoReverseMatch):
        reverse("mfa_signup_webauthn")
    assert browser().get("/accounts/2fa/webauthn/signup/").status_code == 404


def test_what_one_tells_has_bounds(ada):
    client, _ = log_in("ada")
    options = options_of(client.get(reverse("mfa_add_webauthn")), "creation_options")
    credential = Device().make(options) | {"more": "\0"}
    credential["clientExtensionResults"] |= {"credProps": {"rk": "\0"}, "more": ["\0"]}
    long = json.dumps(credential | {"more": "x" * CREDENTIAL_CHARACTERS})
    answer = client.post(reverse("mfa_add_webauthn"), {"name": "", "credential": long})
    assert "more than 16,384 characters" in text_of(answer)
    options = options_of(answer, "creation_options")
    credential |= Device().make(options) | {"clientExtensionResults": credential["clientExtensionResults"]}
    client.post(reverse("mfa_add_webauthn"), {"name": "n" * 500, "credential": json.dumps(credential)})
    row = Authenticator.objects.get(type=Authenticator.Type.WEBAUTHN)
    assert str(row) == "n" * NAME_LENGTH
    assert "\\u0000" not in json.dumps(row.data)
    assert row.wrap().is_passwordless is False
    too_long = client.post(reverse("mfa_edit_webauthn", args=[row.pk]), {"name": "n" * (NAME_LENGTH + 1)})
    assert "at most 60 characters" in text_of(too_long)


def test_a_person_has_so_many_and_no_more(ada):
    client = with_passkey("ada", Device())
    row = Authenticator.objects.get(type=Authenticator.Type.WEBAUTHN)
    page = client.get(reverse("mfa_add_webauthn"))
    Authenticator.objects.bulk_create(
        Authenticator(user=ada, type=row.type, data=row.data) for _ in range(PASSKEYS_OF_A_PERSON - 1)
    )
    sent = {"credential": json.dumps(Device().make(options_of(page, "creation_options")))}
    assert "which is the most" in text_of(client.post(reverse("mfa_add_webauthn"), sent))
    assert "which is the most" in text_of(client.get(reverse("mfa_add_webauthn"), follow=True))
    assert Authenticator.objects.filter(type=row.type).count() == PASSKEYS_OF_A_PERSON


def test_questions_of_strangers_end_soon(db):
    client = browser()
    statuses = [
        client.get(reverse("mfa_login_webauthn"), headers={"accept": "application/json"}).status_code for _ in range(61)
    ]
    assert (statuses[59], statuses[60]) == (200, 429)


def _spoilt(credential: dict[str, Any], part: str, value: Any) -> dict[str, Any]:
    return credential | {"response": credential["response"] | {part: value}}


GARBAGE = {
    "nothing": "",
    "no JSON": "{",
    "null": "null",
    "a number": "1",
    "a text": '"x"',
    "a list": "[]",
    "an empty object": "{}",
    "a response of a number": '{"id": "AA", "rawId": "AA", "type": "public-key", "response": 1}',
    "an empty response": '{"id": "AA", "rawId": "AA", "type": "public-key", "response": {}}',
    "a number as its name": '{"id": 1, "rawId": 1, "type": "public-key", "response": {}}',
    "deep": "[" * 5000 + "]" * 5000,
    "a number without end": "9" * 5000,
}
BYTES: list[Any] = ["", "AA", "\u00e9", 1, None, "o2M", [], {}, "gYGB" * 3000]
HANDLES: list[Any] = ["", "AA", None, 1, "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5", "LTE", "eA", []]
PARTS = ("clientDataJSON", "attestationObject", "authenticatorData", "signature")
SPOILT = {**dict.fromkeys(PARTS, BYTES), "userHandle": HANDLES}


@pytest.mark.slow
def test_garbage_is_refused_everywhere(ada):
    settled = with_passkey("ada", Device())
    half, _ = log_in("ada")
    for what, garbage in GARBAGE.items():
        for client, name in (
            (settled, "mfa_add_webauthn"),
            (settled, "mfa_reauthenticate_webauthn"),
            (half, "mfa_authenticate"),
            (browser(), "mfa_login_webauthn"),
        ):
            client.get(reverse(name), headers={"accept": "application/json"} if name == "mfa_login_webauthn" else {})
            answer = client.post(reverse(name), {"credential": garbage}, follow=True)
            assert answer.status_code == 200, (what, name)
            expected = "No passkey was sent" if garbage in {"", "null", "[]", "{}"} else REFUSED
            assert expected in text_of(answer), (what, name)
        assert not is_in(half), what
        assert Authenticator.objects.filter(type=Authenticator.Type.WEBAUTHN).count() == 1, what
        cache.clear()  # of attempts there are only a few


@pytest.mark.parametrize("part", SPOILT)
def test_a_spoilt_answer_is_refused(ada, part):
    device = Device()
    client = with_passkey("ada", device)
    for value in SPOILT[part]:
        if part in {"clientDataJSON", "attestationObject"}:
            made = Device().make(options_of(client.get(reverse("mfa_add_webauthn")), "creation_options"))
            sent = {"name": "", "credential": json.dumps(_spoilt(made, part, value))}
            answer = client.post(reverse("mfa_add_webauthn"), sent)
            assert (answer.status_code, REFUSED in text_of(answer)) == (200, True), value
            assert Authenticator.objects.filter(type=Authenticator.Type.WEBAUTHN).count() == 1, value
        if part != "attestationObject":
            stranger = browser()
            page = stranger.get(reverse("mfa_login_webauthn"), headers={"accept": "application/json"})
            sent = {"credential": json.dumps(_spoilt(device.use(page.json()["request_options"]), part, value))}
            answer = stranger.post(reverse("mfa_login_webauthn"), sent, follow=True)
            assert (answer.status_code, REFUSED in text_of(answer)) == (200, True), value
            assert not is_in(stranger), value
        cache.clear()


def test_guessing_passkeys_after_the_password_ends_soon(ada):
    with_passkey("ada", Device())
    client, answer = log_in("ada")
    texts = []
    for _ in range(12):
        answer = client.post(reverse("mfa_authenticate"), {"credential": json.dumps(Device().use(options_of(answer)))})
        texts.append(text_of(answer))
    assert REFUSED in texts[0]
    assert "Too many" in texts[-1]
