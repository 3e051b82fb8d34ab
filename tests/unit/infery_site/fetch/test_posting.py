"""Webhooks are posted to judged addresses only; of the answer the status counts, and no redirect is followed."""

from __future__ import annotations

import pytest

from infery_site.addresses import Judge
from infery_site.fetch import AddressRefused, NoAnswer, Poster
from tests.unit.infery_site.fetch.strangers import NO_AUTHORITY, World, answer, redirect


def poster(world: World, **options) -> Poster:
    options = {"answer_s": 5.0, "failure_least_s": 0.0, **options}
    return Poster(resolve=world.resolve, connect=world.connect, tls=NO_AUTHORITY, **options)


async def test_a_post_says_what_it_is_told_and_nothing_else(world, stranger):
    stranger.pages["/hook"] = answer(b"", status="204 No Content")
    assert await poster(world).post("http://hooks.example/hook", b"{}", [("webhook-id", "msg_1")]) == 204
    (head,) = stranger.requests
    assert head.decode().split("\r\n") == [
        *("POST /hook HTTP/1.1", "Host: hooks.example", "User-Agent: infery", "Content-Type: application/json"),
        *("Content-Length: 2", "webhook-id: msg_1", "Accept-Encoding: identity", "Connection: close", "", ""),
    ]


async def test_a_redirect_is_an_answer_like_any_other(world, stranger):
    stranger.pages["/hook"] = redirect("http://elsewhere.example/")
    assert await poster(world).post("http://hooks.example/hook", b"{}", []) == 302
    assert len(stranger.requests) == 1


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1/", "http://inside.example/", "http://hooks.example:8080/", "http://0x7f000001/", "nothing"]
)
async def test_what_may_not_be_dialled_is_not(world, stranger, url):
    world.names["inside.example"] = ["93.184.215.14", "10.0.0.1"]
    for act in (poster(world).check(url), poster(world).post(url, b"{}", [])):
        with pytest.raises(AddressRefused):
            await act
    assert stranger.requests == world.dialled == []


async def test_a_name_that_changes_its_mind_is_judged_anew(world, stranger):
    world.names["fickle.example"] = [["93.184.215.14"], ["10.0.0.1"]]
    await poster(world).check("http://fickle.example/")
    with pytest.raises(AddressRefused):
        await poster(world).post("http://fickle.example/", b"{}", [])
    assert stranger.requests == []


async def test_networks_that_staff_opened_may_be_dialled(world, stranger):
    stranger.pages["/hook"] = answer(b"")
    opened = poster(world, judge=Judge(opened=["10.1.0.0/16"]))
    assert await opened.post("http://10.1.2.3/hook", b"{}", []) == 200
    with pytest.raises(AddressRefused):
        await opened.post("http://10.2.0.1/hook", b"{}", [])


@pytest.mark.parametrize("page", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000])
async def test_whatever_goes_wrong_is_one_thing(world, stranger, page):
    stranger.pages["/hook"] = page
    with pytest.raises(NoAnswer):
        await poster(world).post("http://hooks.example/hook", b"{}", [])


async def test_a_receiver_that_says_nothing_is_left_in_time(world, stranger):
    async def silent(reader, writer):
        await reader.read()

    stranger.pages["/hook"] = silent
    with pytest.raises(NoAnswer):
        await poster(world, answer_s=0.2).post("http://hooks.example/hook", b"{}", [])
