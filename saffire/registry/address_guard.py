"""
Guards the addresses of connections to hosts that a namespace's owner or a registry names.

A registry may be on the internet, in the cluster or on a private network. But a registry is never on the machine that
runs Saffire, on that machine's local links, or at a metadata service by which a cloud gives a machine its secrets. The
guard checks the address of each connection after the host's name was resolved. So neither an odd spelling of an address
nor a second answer of a name server gets around the guard. The operator may deny further networks.
"""

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

# IPv4 addresses that no registry has, by IANA's register of special addresses (RFC 6890): this machine, its local
# links, addresses for protocols and documentation, multicast and broadcast addresses. Those for benchmarks
# (198.18.0.0/15) and the reserved ones (240.0.0.0/4) are in use as private networks, such as for pods of GKE.
_REFUSED_4 = tuple(
    map(
        IPv4Network,
        (
            *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24"),
            *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "255.255.255.255/32"),
        ),
    )
)
# Of IPv6, only private (RFC 4193) and global addresses are allowed. Among the global ones, those for documentation and
# those of tunnels that hide another address (RFC 4380) are refused.
_ALLOWED_6 = tuple(map(IPv6Network, ("fc00::/7", "2000::/3")))
_REFUSED_6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "3fff::/20")))
# IPv4 addresses behind a translator (RFC 6052). Addresses in a 6to4 tunnel (RFC 3056) are read by `sixtofour` below.
_NAT64 = IPv6Network("64:ff9b::/96")
# Cloud services at addresses outside of the refused networks. Link-local addresses, like 169.254.169.254, are inside.
_CLOUD_SERVICES = frozenset(
    {
        IPv4Address("100.100.100.200"),  # Alibaba Cloud: metadata
        IPv4Address("168.63.129.16"),  # Azure: the host's agent
        IPv6Address("fd00:ec2::254"),  # AWS: metadata
        IPv6Address("fd00:ec2::23"),  # AWS: credentials of pods
        IPv6Address("fd20:ce::254"),  # Google Cloud: metadata
        IPv6Address("fd00:42::42"),  # Scaleway: metadata
    }
)


class RefusedAddressError(OSError):
    """Saffire does not connect to an address, since no registry may have this address."""


class AddressGuard:
    """
    Knows the addresses that a registry may have.

    Args:
        denied: networks that no registry is in, besides those that never have one.

    """

    def __init__(self, denied: Iterable[IPv4Network | IPv6Network] = ()) -> None:
        self._denied = tuple(denied)

    def allows(self, address: str) -> bool:
        """
        Tell whether a registry may have this IP address; false if the text is not an IP address.

        >>> [AddressGuard().allows(text) for text in ("10.96.0.10", "127.0.0.1", "::ffff:169.254.169.254")]
        [True, False, False]
        """
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        inner = _inner(parsed)
        if any(form in network for form in (parsed, inner) for network in self._denied):
            return False
        return _is_allowed_4(inner) if isinstance(inner, IPv4Address) else _is_allowed_6(inner)

    def open_socket(self, info: tuple[object, ...]) -> tuple[socket.socket, str]:
        """
        Return a socket for a connection, and the connection's address.

        Raise `RefusedAddressError` if no registry may have this address. `info` is an item that `getaddrinfo` returns:
        address family, type, protocol, canonical name, and the address to connect to.
        """
        family, kind, protocol, _, target = info
        address = str(target[0]) if isinstance(target, tuple) and target else ""
        if not self.allows(address):
            raise RefusedAddressError("not an address of a registry")
        if not (isinstance(family, int) and isinstance(kind, int) and isinstance(protocol, int)):
            raise RefusedAddressError("not an address at all")
        return socket.socket(family, kind, protocol), address


def is_private(address: str) -> bool:
    """
    Tell whether an IP address is of a private network (RFC 1918, RFC 4193, RFC 6598), or of this machine.

    >>> is_private("10.96.0.10"), is_private("100.64.0.1"), is_private("8.8.8.8")
    (True, True, False)
    """
    return not _inner(ip_address(address)).is_global


def _inner(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address leads to; the address itself if it leads to none."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _is_allowed_4(address: IPv4Address) -> bool:
    return address not in _CLOUD_SERVICES and not any(address in network for network in _REFUSED_4)


def _is_allowed_6(address: IPv6Address) -> bool:
    if address in _CLOUD_SERVICES or address.scope_id or any(address in network for network in _REFUSED_6):
        return False
    return any(address in network for network in _ALLOWED_6)
