"""S1 to S6 and S11: nothing that is not public is reached, directly, by a name, by a redirect, or by changing one's mind."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from infery_site.addresses import Judge
from infery_site.errors import ApiError
from infery_site.fetch import FetchedImage, Fetcher, ImageFetchFailed, InvalidImageUrl, dialling
from tests.unit.infery_site.fetch.forms import FORMS, PRIVATE_V4, PRIVATE_V6, SCHEMES, TWO_READINGS
from tests.unit.infery_site.fetch.strangers import PATIENT, PICTURE, PUBLIC, Rerouted, redirect

URL = "http://pictures.example/a.png"
REDIRECTS = [301, 302, 303, 307, 308]
LEGAL = [
    *("1.0.0.1", "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255"),
    *("128.0.0.1", "151.101.1.69", "169.253.255.255", "169.255.0.1", "172.15.255.255", "172.32.0.0", "191.255.255.255"),
    *("192.0.1.1", "192.0.3.1", "192.88.98.1", "192.88.100.1", "192.167.255.255", "192.169.0.0", "198.17.255.255"),
    *("198.20.0.0", "198.51.99.1", "198.51.101.1", "203.0.112.1", "203.0.114.1", "223.255.255.255", "2606:4700::1111"),
    *("2001:200::1", "2001:4860:4860::8888", "2003::1", "2400:cb00::1", "2600::1", "2620:fe::fe", "2800::1", "2a00:1450::1"),
    *("2a04:4e42::645", "2c0f::1", "3ffe::1"),
]


async def test_no_form_of_a_private_address_is_dialled(stranger):
    """S1 to S3 and S7, S8, over the real connect: the sentinel on the loopback hears nothing."""
    fetcher = Fetcher(limits=PATIENT, ports={80, 443, stranger.port})
    for form in (*FORMS, *SCHEMES, *TWO_READINGS):
        url = form.replace("{port}", str(stranger.port)).replace("{host}", f"127.0.0.1:{stranger.port}")
        with pytest.raises(InvalidImageUrl):
            await fetcher.fetch_image(url)
    assert stranger.requests == []


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST.", "local\u00adhost"])
async def test_a_name_of_this_machine_is_not_dialled(stranger, name):
    """S4, with the system's own resolver."""
    with pytest.raises(InvalidImageUrl):
        await Fetcher(limits=PATIENT, ports={stranger.port}).fetch_image(f"http://{name}:{stranger.port}/a.png")
    assert stranger.requests == []


@pytest.mark.parametrize(
    "address", [*PRIVATE_V4, *PRIVATE_V6, "::ffff:127.0.0.1", "::ffff:8.8.8.8%1", "fe80::1%2", "nonsense", ""]
)
async def test_a_name_with_a_private_address_is_not_dialled(world, address):
    """S4, S5: alone, or among public ones."""
    for answer in ([address], [PUBLIC, address], [address, PUBLIC]):
        world.names["pictures.example"] = answer
        with pytest.raises(InvalidImageUrl):
            await world.fetcher().fetch_image(URL)
    assert world.dialled == []


async def test_a_rebinding_name_gains_nothing(world):
    """S5: 1,000 tries with a name that is public in every second answer; each asks once and dials what it was told then."""
    world.names["rebind.example"] = [[PUBLIC], ["127.0.0.1"]] * 500
    fetcher = world.fetcher()
    outcomes = []
    for _ in range(1_000):
        try:
            outcomes.append((await fetcher.fetch_image("http://rebind.example/a.png")).data)
        except InvalidImageUrl:
            outcomes.append(b"")
    assert outcomes == [PICTURE, b""] * 500
    assert world.dialled == [PUBLIC] * 500
    assert world.looked_up == ["rebind.example"] * 1_000


async def test_a_redirect_asks_for_its_name_again(world, stranger):
    """S5: what was public for the first hop may be private for the next."""
    stranger.pages["/go"] = redirect("/a.png")
    world.names["rebind.example"] = [[PUBLIC], ["169.254.169.254"]]
    with pytest.raises(InvalidImageUrl):
        await world.fetcher().fetch_image("http://rebind.example/go")
    assert (world.looked_up, world.dialled) == (["rebind.example"] * 2, [PUBLIC])


@pytest.mark.slow
@pytest.mark.parametrize("status", REDIRECTS)
async def test_no_redirect_leads_to_a_private_address(world, stranger, status):
    """S6: every form, behind a public server."""
    fetcher = world.fetcher(ports=[80, stranger.port])
    forms = [form for form in (*FORMS, *SCHEMES[:20], *TWO_READINGS) if form.isprintable() and form.isascii()]
    for form in forms:
        target = form.replace("{port}", str(stranger.port)).replace("{host}", f"127.0.0.1:{stranger.port}")
        stranger.pages["/go"] = redirect(target, status)
        with pytest.raises(InvalidImageUrl):
            await fetcher.fetch_image("http://pictures.example/go")
    assert world.dialled == [PUBLIC] * len(forms)
    assert len(stranger.requests) == len(forms) > 150


async def test_a_header_that_was_split_is_no_way_out(world, stranger):
    """S6: CR and LF in a Location end the header; what follows is one more header, and the target is what stood before."""
    stranger.pages["/go"] = redirect("/a.png\r\nLocation: http://127.0.0.1/")
    assert await world.fetcher().fetch_image("http://pictures.example/go") == FetchedImage("image/png", PICTURE)
    assert world.dialled == [PUBLIC, PUBLIC]


@pytest.mark.parametrize("status", REDIRECTS)
async def test_three_redirects_are_followed_and_no_fourth(world, stranger, status):
    """S6, row 88."""
    for number in range(1, 5):
        stranger.pages[f"/{number}"] = redirect(f"/{number - 1}" if number > 1 else "/a.png", status)
    assert (await world.fetcher().fetch_image("http://pictures.example/3")).data == PICTURE
    assert len(stranger.requests) == 4
    with pytest.raises(InvalidImageUrl):
        await world.fetcher().fetch_image("http://pictures.example/4")
    assert len(stranger.requests) == 8


async def test_a_loop_ends(world, stranger):
    stranger.pages["/loop"] = redirect("http://pictures.example/loop")
    with pytest.raises(InvalidImageUrl):
        await world.fetcher().fetch_image("http://pictures.example/loop")
    assert len(stranger.requests) == 4


@pytest.mark.parametrize("address", LEGAL)
async def test_a_legal_address_is_fetched(world, address):
    """Of a literal, of a name, and behind a redirect."""
    literal = f"http://[{address}]/a.png" if ":" in address else f"http://{address}/a.png"
    world.names["pictures.example"] = [address]
    world.stranger.pages["/go"] = redirect(literal)
    for url in (literal, URL, "http://pictures.example/go"):
        assert await world.fetcher().fetch_image(url) == FetchedImage("image/png", PICTURE)
    assert world.dialled == [address] * 4
    assert set(world.looked_up) == {"pictures.example"}


async def test_own_networks_are_not_dialled(world):
    fetcher = world.fetcher(judge=Judge(["93.184.215.0/24", "2606:4700::/32"]))
    for address in (PUBLIC, "::ffff:5db8:d70e", "2606:4700::1111", "127.0.0.1"):
        world.names["pictures.example"] = [address]
        with pytest.raises(InvalidImageUrl):
            await fetcher.fetch_image(URL)
    assert world.dialled == []
    world.names["pictures.example"] = ["93.184.216.1"]
    assert (await fetcher.fetch_image(URL)).data == PICTURE


def test_an_own_network_that_cannot_be_read_is_refused():
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/99"):
        Judge(["10.0.0.0/99"])


async def test_a_socket_with_another_peer_gets_no_byte(world, stranger):
    """The last look, at what the socket itself says."""

    async def connect(addresses, port):
        connected = await world.connect(addresses, port)
        connected.peer = ("127.0.0.1", port)
        return connected

    with pytest.raises(InvalidImageUrl):
        await Fetcher(limits=PATIENT, resolve=world.resolve, connect=connect).fetch_image(URL)
    await asyncio.sleep(0.05)
    assert (world.dialled, stranger.requests) == ([PUBLIC], [])


async def test_a_socket_without_a_peer_is_a_failure(world):
    async def connect(addresses, port):
        return Disconnected()

    with pytest.raises(ImageFetchFailed):
        await Fetcher(limits=PATIENT, resolve=world.resolve, connect=connect).fetch_image(URL)


class Disconnected(Rerouted):
    def getpeername(self):
        raise OSError("not connected")


async def test_the_next_address_is_tried_when_one_does_not_take_a_connection(stranger):
    """With the real connect, to where nobody listens and then to the stranger; one judge for this test lets the loopback pass."""
    connected = await dialling.connect(["::1", "127.0.0.2", "127.0.0.1"], stranger.port)
    with connected:
        assert connected.getpeername()[:2] in {("127.0.0.1", stranger.port), ("127.0.0.2", stranger.port)}
    await stranger.stop()
    with pytest.raises(OSError, match=r"[Rr]efused|Connect"):
        await dialling.connect(["127.0.0.1"], stranger.port)


async def test_whoever_asks_is_asked_before_each_connection(world, stranger):
    """S11: a limit of 60 a minute lets 60 connections to one host through, however they are come by."""
    stranger.pages["/go"] = redirect("/a.png")
    counter = itertools.count(1)

    async def before_dial(host, addresses):
        assert (host, addresses) == ("pictures.example", [PUBLIC])
        if next(counter) > 60:
            raise ApiError(429, "rate_limit_exceeded", "Too many images are fetched.")

    fetcher = world.fetcher()
    urls = ["http://pictures.example/go", URL] * 500
    outcomes = await asyncio.gather(
        *(fetcher.fetch_image(url, before_dial=before_dial) for url in urls), return_exceptions=True
    )
    assert len(world.dialled) == 60
    refused = [outcome for outcome in outcomes if isinstance(outcome, ApiError)]
    assert len(refused) == 1_000 - sum(isinstance(outcome, FetchedImage) for outcome in outcomes) > 900
