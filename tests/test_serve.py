"""Where the function listens if nobody says."""

import errno
import socket

import pytest

from serve import all_addresses


class OldSocket(socket.socket):
    """A socket as a kernel without IPv6 (`ipv6.disable=1`) makes it."""

    def __init__(self, family: int = -1, *arguments: int) -> None:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        super().__init__(family, *arguments)


def test_without_ipv6_it_listens_on_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    """The web server would not start if it were told to listen on addresses that the kernel does not know."""
    monkeypatch.setattr(socket, "socket", OldSocket)
    assert "0.0.0.0" == all_addresses()  # noqa: S104 - nothing is bound
