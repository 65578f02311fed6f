"""The addresses that a registry may have, and those that it never has."""

import socket

import pytest

from saffire.registry.address_guard import RefusedAddressError, guarded_socket, is_allowed

ALLOWED = [
    *("8.8.8.8", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "1.1.1.1"),
    *("2606:4700::1111", "fd12:3456::1", "fc00::1", "::ffff:10.0.0.1", "64:ff9b::8.8.8.8", "2002:808:808::1"),
]
REFUSED = [
    *("127.0.0.1", "127.255.255.255", "0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1", "169.254.170.23"),  # noqa: S104 - none is bound
    *("224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.0.192", "192.0.2.1", "198.18.0.1"),
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
    assert is_allowed(address)


@pytest.mark.parametrize("address", REFUSED)
def test_a_registry_is_never_this_machine_nor_a_cloud_s_metadata(address: str) -> None:
    """Neither another spelling, nor a translator, nor a tunnel gets around the guard."""
    assert not is_allowed(address)


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
        guarded_socket(info)


def test_a_socket_is_made_for_an_address_that_is_allowed() -> None:
    """It has the family and type that `getaddrinfo` returned."""
    with guarded_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 443))) as made:
        assert (socket.AF_INET, socket.SOCK_STREAM) == (made.family, made.type)
