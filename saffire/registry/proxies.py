"""
Proxies: through which proxy a request goes, as in container runtimes and other programs.

The environment variables `HTTPS_PROXY` and `HTTP_PROXY` name the proxy of a scheme, and `NO_PROXY` lists hosts that
need none. A host on loopback needs none either (golang.org/x/net/http/httpproxy).
"""

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
