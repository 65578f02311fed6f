"""
Proxies: which proxy of the environment a request takes, by the rules of programs in Go.

Container runtimes and `kubectl` are such programs. Saffire has to reach a registry where nodes reach it, and the API
server where `kubectl` reaches it. Python's own rules know no networks, for instance. So the rules are those of
golang.org/x/net/http/httpproxy. `HTTPS_PROXY` and `HTTP_PROXY` name the proxy for URLs of that scheme, as a URL or as
`host:port`, which stands for `http://host:port`. `NO_PROXY` lists the hosts that take no proxy, separated by commas::

    10.0.0.7              an address
    10.0.0.0/8            a network: the addresses in it, but no name, since no name is resolved for that
    corp.example          a name, and all names below it
    .corp.example         all names below it, but not itself; `*.corp.example` means the same
    corp.example:5000     a name or an address at this port only
    *                     every host

`localhost` and addresses on loopback never take a proxy. A variable may be written in lower case, too; if both have a
value, upper case wins. An entry that is none of these is ignored.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self

from yarl import URL

_Address = IPv4Address | IPv6Address
_Hosts = IPv4Network | IPv6Network | str
# An IPv6 address with a port is in brackets. A network has none.
_WITH_PORT = re.compile(r"(\[[^/]*\]|[^:/]+):([0-9]*)")


class InvalidProxy(ValueError):
    """A variable does not name a proxy. The message leaves out its value, which may contain a password."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proxies:
    """
    The proxies of an environment, and the hosts that take none; by default there is no proxy.

    Args:
        https: the URL of the proxy for `https://`; `""` for none.
        http: the URL of the proxy for `http://`; `""` for none.
        exceptions: pairs: a network, or a name as in `NO_PROXY`, and the port; `""` for every port.

    """

    https: str = field(default="", repr=False)
    http: str = field(default="", repr=False)
    exceptions: tuple[tuple[_Hosts, str], ...] = ()

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables; raise `InvalidProxy` if one names a proxy that is no URL."""
        entries = _value(environ, "NO_PROXY").lower().split(",")
        return cls(
            https=_proxy(environ, "HTTPS_PROXY"),
            http=_proxy(environ, "HTTP_PROXY"),
            exceptions=tuple(map(_exception, filter(None, map(str.strip, entries)))),
        )

    def of(self, url: URL) -> str | None:
        """
        Return the URL of the proxy for a request; `None` if the request goes straight to its host.

        >>> proxies = Proxies.from_environ({"HTTPS_PROXY": "proxy.example:3128", "NO_PROXY": "10.0.0.0/8"})
        >>> proxies.of(URL("https://quay.io/")), proxies.of(URL("https://10.96.0.1:443/"))
        ('http://proxy.example:3128', None)
        """
        proxy = {"https": self.https, "http": self.http}.get(url.scheme)
        host = _host(url)
        if not proxy or host == "localhost" or (not isinstance(host, str) and host.is_loopback):
            return None
        ports = {"", str(url.port)}
        return None if any(port in ports and _covers(hosts, host) for hosts, port in self.exceptions) else proxy


def address_in(url: URL) -> str:
    """
    Return the IP address that a URL names as its host; `""` if the host is a name.

    >>> address_in(URL("https://[fd00::1]:5000/")), address_in(URL("https://quay.io/"))
    ('fd00::1', '')
    """
    host = (url.host_subcomponent or "").strip("[]").partition("%")[0]
    try:
        return str(ip_address(host))
    except ValueError:
        return ""


def _host(url: URL) -> _Address | str:
    """Return the address or the name that a URL has as its host; `::ffff:10.0.0.1` counts as the address `10.0.0.1`."""
    text = address_in(url)
    if not text:
        return (url.host_subcomponent or "").lower()
    address = ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def _covers(hosts: _Hosts, host: _Address | str) -> bool:
    """Tell whether an entry of `NO_PROXY`, without its port, names a host."""
    if hosts == "*":
        return True
    if isinstance(hosts, str):
        return isinstance(host, str) and (host == hosts or host.endswith("." + hosts.removeprefix(".")))
    return not isinstance(host, str) and host in hosts


def _exception(entry: str) -> tuple[_Hosts, str]:
    """Read an entry of `NO_PROXY`, in lower case."""
    match = _WITH_PORT.fullmatch(entry)
    host, port = match.groups() if match else (entry, "")
    try:
        return ip_network(host.strip("[]"), strict=False), port
    except ValueError:
        return host.removeprefix("*") if host.startswith("*.") else host, port


def _proxy(environ: Mapping[str, str], name: str) -> str:
    """Return the URL of the proxy that a variable names; raise `InvalidProxy` if it is none."""
    value = _value(environ, name)
    url = value if not value or "://" in value else f"http://{value}"
    try:
        is_url = not url or bool(URL(url).host)
    except ValueError:
        is_url = False
    if not is_url:
        raise InvalidProxy(f"{name}: wants the URL of a proxy, or host:port")
    return url


def _value(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.lower()) or ""
