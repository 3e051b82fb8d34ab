from __future__ import annotations

import pytest

from infery_site.addresses import Judge, is_public, unmapped

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.215.14", "2606:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8", "192.0.1.1"]

NOT_PUBLIC = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254"),  # noqa: S104
    *("169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.0.192", "192.0.2.1", "192.88.99.1"),
    *("192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
    *("255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::8.8.8.8"),
    *("64:ff9b:1::1", "100::1", "2001::1", "2001:0:4136:e378::1", "2001:10::1", "2001:db8::1", "2002:7f00:1::1"),
    *("3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1"),
    *("localhost", "", "1.1.1", "0x7f000001", "2130706433", "1.1.1.1.", "[::1]", "１.1.1.1"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "::ffff:8.8.8.8", "2606:4700::1111", "2606:4700:ffff::"])
def test_own_networks_are_refused_besides(address: str) -> None:
    judge = Judge(["8.8.8.0/24", "2606:4700::/32"])
    assert is_public(address)
    assert not judge(address)
    assert all(map(judge, ("8.8.9.8", "2606:4701::1")))
    assert not judge("10.0.0.1")


def test_an_address_with_a_zone_is_not_public() -> None:
    assert not is_public("2606:4700::1111%eth0")


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::ffff:a00:1", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
        ("::ffff:x", "::ffff:x"),
    ],
)
def test_a_mapped_address_is_the_one_that_is_meant(host: str, shown: str) -> None:
    assert unmapped(host) == shown
