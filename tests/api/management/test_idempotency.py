"""An Idempotency-Key makes a POST that creates run once, for the caller who sent it."""

import threading

import pytest
from django.db import connections

from billing.models import ApiKey, IdempotentReply, Invitation, Membership, QuotaPreset
from tests.api.management.conftest import error_of

pytestmark = pytest.mark.django_db(transaction=True)

AGAIN = {"idempotency_key": "once"}


def test_a_repeat_gets_the_first_answer_with_the_same_key_in_it(as_role, acme):
    ask = as_role("developer")
    first, second = (ask("post", "/keys", {"name": "ci"}, **AGAIN) for _ in range(2))
    assert first.status_code == second.status_code == 201
    assert first.content == second.content
    assert "idempotent-replayed" not in first
    assert second["idempotent-replayed"] == "true"
    assert second["content-type"] == "application/json"
    assert ApiKey.objects.filter(name="ci").count() == 1
    assert first.json()["key"] not in str(list(IdempotentReply.objects.values()))


def test_a_repeated_roll_rolls_once(as_role, acme):
    ask = as_role("owner")
    path = f"/keys/{acme.key.public_id}/roll"
    first, second = (ask("post", path, {"overlap": "now"}, **AGAIN) for _ in range(2))
    assert first.content == second.content
    assert ApiKey.objects.count() == 2


def test_a_person_is_invited_once(as_role):
    body = {"email": "grace@example.com", "role": "viewer"}
    first, second = (as_role("owner")("post", "/members", body, **AGAIN) for _ in range(2))
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert first.status_code == 201
    assert Invitation.objects.count() == 1


def test_a_preset_is_made_once(as_role):
    first, second = (as_role("owner")("post", "/presets", {"name": "Team"}, **AGAIN) for _ in range(2))
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert first.status_code == 201
    assert QuotaPreset.objects.count() == 1


def test_another_body_is_refused(as_role):
    ask = as_role("owner")
    ask("post", "/keys", {"name": "ci"}, **AGAIN)
    assert error_of(ask("post", "/keys", {"name": "cd"}, **AGAIN)) == (422, "idempotency_mismatch", None)


def test_another_member_gets_a_key_of_his_own_and_not_the_first_one_s(as_role):
    texts = {as_role(who)("post", "/keys", {"name": "ci"}, **AGAIN).json()["key"] for who in ("admin", "developer")}
    assert len(texts) == 2
    assert ApiKey.objects.filter(name="ci").count() == 2


def test_who_may_no_more_gets_no_replay(as_role, people):
    ask = as_role("developer")
    ask("post", "/keys", {"name": "ci"}, **AGAIN)
    Membership.objects.filter(pk=people["developer"].pk).update(role="viewer")
    assert error_of(ask("post", "/keys", {"name": "ci"}, **AGAIN)) == (403, "permission_denied", None)


def test_what_was_refused_may_be_tried_again(as_role):
    ask = as_role("owner")
    body = {"name": "ci", "expires_at": "2001-01-01"}
    for _ in range(2):
        assert error_of(ask("post", "/keys", body, **AGAIN)) == (400, "invalid_value", "expires_at")
    assert ask("post", "/keys", {"name": "ci"}, **AGAIN).status_code == 201
    assert not IdempotentReply.objects.filter(is_complete=False).exists()


@pytest.mark.parametrize("key", ["", "x" * 256, "a b"])
def test_row_26_a_key_that_is_none(as_role, key):
    response = as_role("owner")("post", "/keys", {"name": "ci"}, idempotency_key=key)
    assert error_of(response) == (400, "invalid_idempotency_key", "Idempotency-Key")


def test_many_at_once_create_one(as_role, people):
    answers = []
    start = threading.Barrier(12)
    asks = [as_role("owner") for _ in range(12)]

    def ask(send):
        try:
            start.wait()
            answers.append(send("post", "/keys", {"name": "ci"}, **AGAIN))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=ask, args=[send]) for send in asks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ApiKey.objects.filter(name="ci").count() == 1
    assert len(answers) == 12
    created = [answer for answer in answers if answer.status_code == 201]
    assert len({answer.content for answer in created}) == 1
    for answer in answers:
        if answer not in created:
            assert error_of(answer) == (409, "idempotency_in_progress", None)
            assert answer["retry-after"] == "1"


async def test_the_same_under_asgi(transactional_db, async_client, acme, people):
    await async_client.aforce_login(people["owner"].user)
    url = f"/api/workspaces/{acme.workspace.public_id}/keys"
    answers = [
        await async_client.post(url, {"name": "ci"}, content_type="application/json", headers={"idempotency-key": "once"})
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].content == answers[1].content
    assert await ApiKey.objects.filter(name="ci").acount() == 1
