"""The addresses that a registry may have, and those that it never has."""

import socket
from ipaddress import ip_network

import pytest

from saffire.registry.address_guard import AddressGuard, RefusedAddressError, is_private

ALLOWED = [
    *("8.8.8.8", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "1.1.1.1"),
    *("198.18.0.1", "240.0.0.1", "255.255.255.254"),
    *("2606:4700::1111", "fd12:3456::1", "fc00::1", "::ffff:10.0.0.1", "64:ff9b::8.8.8.8", "2002:808:808::1"),
]
REFUSED = [
    *("127.0.0.1", "127.255.255.255", "0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1", "169.254.170.23"),  # noqa: S104 - none is bound
    *("224.0.0.1", "239.1.1.1", "255.255.255.255", "192.0.0.192", "192.0.2.1"),
    *("198.51.100.1", "203.0.113.1", "100.100.100.200", "168.63.129.16"),
    *("::1", "::", "fe80::1", "fe80::1%eth0", "2606:4700::1%1", "febf::1", "fec0::1", "ff02::1", "fd00:ec2::254"),
    *("fd00:ec2::23", "fd20:ce::254", "fd00:42::42", "2001:db8::1", "3fff::1", "2001::1", "100::1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b:1::10.0.0.1"),
    *("64:ff9b::169.254.169.254", "2002:7f00:1::", "2002:a9fe:a9fe::1"),
    *("", "localhost", "127.1", "2130706433", "0x7f000001", "017700000001", "[::1]", "1.1.1.1 "),
]


@pytest.mark.parametrize("address", ALLOWED)
def test_a_registry_may_be_on_the_internet_and_on_private_networks(address: str) -> None:
    """Many registries are in the cluster or on its network."""
    assert AddressGuard().allows(address)


@pytest.mark.parametrize("address", REFUSED)
def test_a_registry_is_never_this_machine_nor_a_cloud_s_metadata(address: str) -> None:
    """Neither another spelling, nor a translator, nor a tunnel gets around the guard."""
    assert not AddressGuard().allows(address)


@pytest.mark.parametrize(
    ("address", "is_denied"),
    [
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("::ffff:10.1.2.3", True),
        ("64:ff9b::10.1.2.3", True),
        ("2002:a01:203::1", True),
        ("fd12:1::1", True),
        ("fd13:1::1", False),
        ("8.8.8.8", False),
    ],
)
def test_the_operator_may_deny_networks(address: str, *, is_denied: bool) -> None:
    """They are denied in every form of their addresses."""
    guard = AddressGuard([ip_network("10.0.0.0/8"), ip_network("fd12::/16")])
    assert is_denied != guard.allows(address)


@pytest.mark.parametrize("address", REFUSED[:-8])
def test_a_denied_network_allows_no_other(address: str) -> None:
    """What no registry has stays refused."""
    assert not AddressGuard([ip_network("10.0.0.0/8")]).allows(address)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        *((address, True) for address in ("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12:3456::1")),
        *((address, True) for address in ("::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:a00:1::1", "127.0.0.1")),
        *((address, False) for address in ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8")),
        *((address, False) for address in ("2002:808:808::1", "172.32.0.1", "100.128.0.1")),
    ],
)
def test_an_address_is_private_if_the_internet_does_not_lead_there(address: str, *, expected: bool) -> None:
    """An IPv6 address that leads to an IPv4 address is as private as that one."""
    assert expected == is_private(address)


@pytest.mark.parametrize(
    "info",
    [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 443, 0, 0)),
        (socket.AF_UNIX, socket.SOCK_STREAM, 0, "", "/run/docker.sock"),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ()),
        ("inet", socket.SOCK_STREAM, 6, "", ("10.0.0.1", 443)),
    ],
)
def test_no_socket_is_made_for_another_address(info: tuple[object, ...]) -> None:
    """The address is checked just before the connection is made."""
    with pytest.raises(RefusedAddressError):
        AddressGuard().open_socket(info)


def test_a_socket_is_made_for_an_address_that_is_allowed() -> None:
    """It has the family and type that `getaddrinfo` returned."""
    made, address = AddressGuard().open_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 443)))
    with made:
        assert (socket.AF_INET, socket.SOCK_STREAM, "10.0.0.1") == (made.family, made.type, address)
