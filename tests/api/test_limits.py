"""Limits of requests at the doors that Django serves: what the process's limiter counts for them, and refuses."""

from collections.abc import Iterator

import pytest
from asgiref.sync import async_to_sync

from billing.apikeys import KeyTerms, mint
from billing.limits import Limiter
from tests.worlds import ACTOR

pytestmark = pytest.mark.django_db


@pytest.fixture
def _serving() -> Iterator[None]:
    limiter = Limiter(workers=1, redis_url="")
    async_to_sync(limiter.start)()
    yield
    async_to_sync(limiter.stop)()


@pytest.mark.usefixtures("_serving")
@pytest.mark.parametrize(("path", "scope"), [("/v1/key", "usage:read"), ("/api/workspaces", "keys:manage")])
def test_a_key_that_is_limited_by_the_day_alone_is_counted(client, acme, path, scope):
    terms = KeyTerms(scopes=[scope], max_requests_daily=2)
    _, text = mint(acme.workspace, "limited", actor=ACTOR, terms=terms)
    answers = [client.get(path, headers={"authorization": f"Bearer {text}"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer["x-ratelimit-remaining-requests"] for answer in answers] == ["1", "0", "0"]
    error = answers[-1].json()["error"]
    assert (error["code"], error["message"]) == ("rate_limit_exceeded", "Rate limit: 2 req/day on this API key")
    assert 1 <= int(answers[-1]["retry-after"]) <= 86_400


@pytest.mark.usefixtures("_serving")
def test_a_key_without_limits_gets_no_headers_of_any(client, acme):
    answer = client.get("/v1/key", headers=acme.headers)
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.lower().startswith("x-ratelimit")]
