"""
What the machine says of connections: through which proxy a request goes, and which certificates are trusted.

Both are as in container runtimes, so that Saffire reaches a registry where nodes do. The environment variables
`HTTPS_PROXY` and `HTTP_PROXY` name the proxy of a scheme, and `NO_PROXY` lists hosts that need none. A host on loopback
needs none either (golang.org/x/net/http/httpproxy).
"""

import ssl
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.request import getproxies, proxy_bypass

from yarl import URL


class Proxies:
    """The proxies by scheme, `http` or `https`; `None` stands for those of the environment."""

    def __init__(self, by_scheme: Mapping[str, str] | None = None) -> None:
        self._by_scheme = getproxies() if by_scheme is None else by_scheme

    def of(self, url: URL) -> str | None:
        """Return the URL of the proxy for a request; `None` if the request goes straight to its host."""
        host, address = url.host_subcomponent or "", address_in(url)
        proxy = self._by_scheme.get(url.scheme)
        is_loopback = host == "localhost" or (address and ip_address(address).is_loopback)
        return None if not proxy or is_loopback or proxy_bypass(f"{host}:{url.port}") else proxy


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


def system_trust() -> ssl.SSLContext:
    """
    Return a TLS context that trusts the certificate authorities of the operating system.

    From 3.13 on, Python also refuses certificates without key identifiers (`ssl.VERIFY_X509_STRICT`). Container
    runtimes accept these, as Go does. A registry from which nodes can pull must not seem down to Saffire.
    """
    context = ssl.create_default_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    return context


# Made while the module is imported, since it reads files. That would hold up the event loop.
SYSTEM_TRUST = system_trust()
