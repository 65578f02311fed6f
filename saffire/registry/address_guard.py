"""
Addresses: whom a request may be sent to, where a namespace's owner or a registry names whom.

A registry may be anywhere: on the internet, in the cluster, on a private network. What is never a registry is this
machine itself, its links, and the services by which clouds tell a machine its secrets. So the address that a connection
is really made to is looked at, after the name was resolved: no spelling of an address and no second answer of a name
server gets around that.
"""

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

# Never anybody's registry, by IANA's register of special addresses (RFC 6890): this machine, its links, protocols' own
# addresses, those of documents and measurements, multicast and what is reserved.
_NEVER_4 = tuple(
    map(
        IPv4Network,
        (
            *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15"),
            *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        ),
    )
)
# Of IPv6, only what is private (RFC 4193) or global; of that not the documents', nor what a tunnel hides (RFC 4380).
_ALLOWED_6 = tuple(map(IPv6Network, ("fc00::/7", "2000::/3")))
_NEVER_6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "3fff::/20")))
# IPv4 behind a translator (RFC 6052), and through a tunnel (RFC 3056).
_NAT64 = IPv6Network("64:ff9b::/96")
# Services of clouds at addresses that look like anybody's. Link-local ones, as 169.254.169.254, are refused anyhow.
_SERVICES = frozenset(
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
    """The address is not one that may be asked."""


def is_allowed(address: str) -> bool:
    """
    Tell whether a registry may be at an address.

    >>> is_allowed("10.96.0.10"), is_allowed("127.0.0.1"), is_allowed("::ffff:169.254.169.254")
    (True, False, False)
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address):
        return _is_allowed_6(parsed)
    return _is_allowed_4(parsed)


def guarded_socket(info: tuple[object, ...]) -> socket.socket:
    """
    Return a socket to connect to the last item of `info`, as `getaddrinfo` gives it; raise `RefusedAddressError`.

    This is called for each connection, with the very address that it is made to.
    """
    family, kind, protocol, _, address = info
    if not (isinstance(address, tuple) and address and is_allowed(str(address[0]))):
        raise RefusedAddressError("not an address of a registry")
    if not (isinstance(family, int) and isinstance(kind, int) and isinstance(protocol, int)):
        raise RefusedAddressError("not an address at all")
    return socket.socket(family, kind, protocol)


def _is_allowed_4(address: IPv4Address) -> bool:
    return address not in _SERVICES and not any(address in network for network in _NEVER_4)


def _is_allowed_6(address: IPv6Address) -> bool:
    inner = IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address.ipv4_mapped or address.sixtofour
    if inner:
        return _is_allowed_4(inner)
    if address in _SERVICES or address.scope_id or any(address in network for network in _NEVER_6):
        return False
    return any(address in network for network in _ALLOWED_6)
