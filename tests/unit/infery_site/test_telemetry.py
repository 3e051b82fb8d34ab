"""K17: who is told the figures of an installation."""

from __future__ import annotations

import pytest

TOKEN = {"authorization": "Bearer figures"}


@pytest.fixture
def token(settings):
    settings.METRICS_TOKEN = "figures"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.1", "::1"])
def test_this_machine_is_told(client, address):
    response = client.get("/metrics", REMOTE_ADDR=address, headers={"host": "10.1.2.3:8000"})
    assert response.status_code == 200
    assert response["content-type"].startswith("text/plain")
    assert b"# TYPE gateway_sandbox_seconds histogram" in response.content


@pytest.mark.parametrize("address", ["203.0.113.9", "10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", ""])
def test_nobody_else_is_without_the_token(client, token, address):
    for headers in ({}, {"authorization": "Bearer figure"}, {"authorization": "figures"}, {"authorization": "Bearer "}):
        response = client.get("/metrics", REMOTE_ADDR=address, headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (403, "permission_denied")
    assert client.get("/metrics", REMOTE_ADDR=address, headers=TOKEN).status_code == 200


@pytest.mark.parametrize("name", ["x-forwarded-for", "forwarded", "x-real-ip"])
def test_who_comes_through_a_proxy_of_this_machine_is_somebody_else(client, token, name):
    assert client.get("/metrics", headers={name: "127.0.0.1"}).status_code == 403
    assert client.get("/metrics", headers={name: "127.0.0.1"} | TOKEN).status_code == 200


def test_no_token_is_not_an_empty_one(client, settings):
    settings.METRICS_TOKEN = ""
    assert client.get("/metrics", REMOTE_ADDR="203.0.113.9", headers={"authorization": "Bearer "}).status_code == 403


def test_only_reads_are_answered(client):
    response = client.post("/metrics")
    assert (response.status_code, response["allow"]) == (405, "GET, HEAD")
