from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infery_site.addresses import is_public
from infery_site.fetch import InvalidImageUrl
from infery_site.fetch.urls import Target, follow, parse
from tests.unit.infery_site.fetch.forms import FORMS, SCHEMES, TWO_READINGS

PORTS = {80, 443}
START = Target("https", "good.example", 443, "/albums/one/a.png?size=2")

GOOD = [
    ("http://good.example", Target("http", "good.example", 80, "/")),
    ("HTTPS://Good.Example/A.png", Target("https", "good.example", 443, "/A.png")),
    ("http://good.example./a.png#part?x", Target("http", "good.example", 80, "/a.png")),
    ("http://good.example?a=1", Target("http", "good.example", 80, "/?a=1")),
    ("http://good.example:443/", Target("http", "good.example", 443, "/")),
    ("https://good.example/a%20b/%E4?x[]=1&y=a@b:c;d,e!$'()*+~-._=", None),
    ("https://a_b.good-example.example/", Target("https", "a_b.good-example.example", 443, "/")),
    ("https://bücher.example/ö.png?ü", Target("https", "xn--bcher-kva.example", 443, "/%C3%B6.png?%C3%BC")),
    ("https://ＧＯＯＤ．example/", Target("https", "good.example", 443, "/")),
    ("https://xn--bcher-kva.example/", Target("https", "xn--bcher-kva.example", 443, "/")),
    ("http://8.8.8.8/a", Target("http", "8.8.8.8", 80, "/a")),
    ("http://８。８。８。８/a", Target("http", "8.8.8.8", 80, "/a")),
    ("http://[2606:4700::1111]/a", Target("http", "2606:4700::1111", 80, "/a")),
    ("http://[2606:4700::ABCD]:443/", Target("http", "2606:4700::abcd", 443, "/")),
    ("http://1.good.example/", Target("http", "1.good.example", 80, "/")),
    ("http://good.1e/", Target("http", "good.1e", 80, "/")),
]


@pytest.mark.parametrize(("url", "target"), GOOD, ids=[url for url, _ in GOOD])
def test_a_url_names_its_target(url, target):
    assert parse(url, PORTS) == (target or Target("https", "good.example", 443, url.removeprefix("https://good.example")))


@pytest.mark.parametrize("url", [url.replace("{host}", "8.8.8.8") for url in (*SCHEMES, *TWO_READINGS)], ids=ascii)
def test_what_can_be_read_in_two_ways_is_refused(url):
    """S7, S8: the host it would name is a public one, so that nothing but its form can refuse it."""
    with pytest.raises(InvalidImageUrl):
        parse(url.replace("{{", "{").replace("}}", "}"), PORTS)


@pytest.mark.parametrize("form", FORMS, ids=ascii)
def test_no_form_of_a_private_address_is_taken_for_a_name(form):
    """S1 to S3: it is refused, or the address that is meant is in the open for the judge."""
    try:
        target = parse(form.format(port=80), PORTS)
    except InvalidImageUrl:
        return
    assert target.is_literal
    assert not is_public(target.host)


@given(
    scheme=st.sampled_from(["http", "https", "HTTP", "ftp"]),
    host=st.text(st.sampled_from("aA1.0x-_:@[]%\\/#?１。٣ü\u200b\t "), max_size=20),
    rest=st.sampled_from(["", "/", ":80/", ":443", "/a?b#c", "?x@y"]),
)
def test_what_is_accepted_means_the_same_to_another_parser(scheme, host, rest):
    url = f"{scheme}://{host}{rest}"
    try:
        target = parse(url, PORTS)
    except InvalidImageUrl:
        return
    canonical = f"{target.scheme}://{target.authority}{target.path}"
    assert parse(canonical, PORTS) == target
    other = urlsplit(canonical)
    assert (other.hostname, other.port or {"http": 80, "https": 443}[other.scheme]) == (target.host, target.port)
    assert canonical.isascii()
    assert not set(canonical) & set(" \t\r\n\\")


@pytest.mark.slow
@given(st.text(max_size=60))
def test_any_text_is_refused_or_read(url):
    try:
        assert parse(url, PORTS).host
    except InvalidImageUrl as error:
        assert error.at("messages[0]").code == "invalid_image_url"  # noqa: PT017


@pytest.mark.parametrize(
    ("location", "url"),
    [
        (b"b.png", "https://good.example/albums/one/b.png"),
        (b"../b.png?c", "https://good.example/albums/b.png?c"),
        (b"/b.png", "https://good.example/b.png"),
        (b"?size=3", "https://good.example/albums/one/a.png?size=3"),
        (b"//other.example/b.png", "https://other.example/b.png"),
        (b"https://other.example", "https://other.example/"),
        ("/ü.png".encode(), "https://good.example/%C3%BC.png"),
    ],
)
def test_a_redirect_is_read_as_a_reference(location, url):
    assert follow(START, location, PORTS) == parse(url, PORTS)


@pytest.mark.parametrize(
    "location",
    [
        *(b"http://good.example/", b"HTTP:b.png", b"file:///etc/passwd", b"ftp://good.example/", b"//a@good.example/"),
        *(b"//good.example:8080/", b"\\\\good.example\\", b"/\\good.example/", b"https:\\\\good.example", b"/a\tb", b"/a b"),
        *(b"//good.example\x00/", b"\xff", b"//[::1", b"https://good.example/" + b"a" * 9_000, b"javascript:alert(1)"),
    ],
)
def test_a_redirect_that_is_not_followed(location):
    """S6. The first two leave https for http."""
    with pytest.raises(InvalidImageUrl):
        follow(START, location, PORTS)
