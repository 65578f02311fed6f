"""Proxies of the environment, read as programs in Go read them."""

import pytest
from yarl import URL

from saffire.proxies import InvalidProxy, Proxies, address_in

PROXY = "http://proxy.example:3128"
# One entry of each kind, as in an environment of a cluster.
NO_PROXY = (
    "10.0.0.0/8, 192.168.7.7,192.168.7.8:5000, fd00::/8,2001:db8::7, [2001:db8::8]:5000, 172.16.5.5/12,"
    "corp.example,.svc, *.cluster.local, Registry.Shop.Example:5000, ,:443,10.0.0.0/33,100.64.0.0/10:443,"
    "hub.example:443"
)


@pytest.mark.parametrize(
    "host",
    [
        *("10.96.0.1", "10.96.0.1:6443", "172.16.0.1", "[fd00:10:96::1]", "[FD00::1]:6443", "[::ffff:10.96.0.1]"),
        *("192.168.7.7", "192.168.7.7:5000", "192.168.7.8:5000", "[2001:db8::7]:5000", "[2001:db8:0::8]:5000"),
        *("corp.example", "r.corp.example", "a.b.CORP.example:5000", "mirror.registry.svc", "x.cluster.local"),
        *("registry.shop.example:5000", "eu.registry.shop.example:5000", "hub.example", "hub.example:443"),
        *("localhost", "LOCALHOST:6443", "127.0.0.1:6443", "127.8.8.8", "[::1]:6443", "[::ffff:127.0.0.1]"),
    ],
)
def test_an_excepted_host_takes_no_proxy(host: str) -> None:
    """Neither does a host on loopback, which nobody has to list."""
    assert Proxies.from_environ({"HTTPS_PROXY": PROXY, "NO_PROXY": NO_PROXY}).of(URL(f"https://{host}/v2/")) is None


@pytest.mark.parametrize(
    "host",
    [
        *(
            "11.0.0.1",
            "192.168.7.8",
            "192.168.7.8:5001",
            "[fe80::1]",
            "[2001:db8::8]",
            "[::]",
            "0.0.0.0:6443",
            "100.64.0.1",
        ),
        *("quay.io", "notcorp.example", "corp.example.org", "svc", "cluster.local", "registry.shop.example"),
        *("local.localhost", "10.0.0.1.example", "quay.io:443", "hub.example:5000"),
    ],
)
def test_every_other_host_takes_the_proxy(host: str) -> None:
    """A part of a label is no match, a dot in front excepts only what is below, and a port counts for itself."""
    assert PROXY == Proxies.from_environ({"HTTPS_PROXY": PROXY, "NO_PROXY": NO_PROXY}).of(URL(f"https://{host}/v2/"))


@pytest.mark.parametrize("host", ["quay.io", "10.96.0.1:6443", "[fd00::1]"])
def test_a_star_excepts_every_host(host: str) -> None:
    """It stands alone among the commas."""
    assert Proxies.from_environ({"HTTPS_PROXY": PROXY, "NO_PROXY": "a.example, *"}).of(URL(f"https://{host}/")) is None


def test_a_name_is_not_excepted_as_an_address() -> None:
    """The digits of an address are no labels, and a suffix of them excepts nothing."""
    proxies = Proxies.from_environ({"HTTPS_PROXY": PROXY, "NO_PROXY": "0.1,.96.0.1,*.0.1"})
    assert PROXY == proxies.of(URL("https://10.96.0.1/"))


@pytest.mark.parametrize(
    ("environ", "https", "http"),
    [
        ({}, None, None),
        ({"HTTPS_PROXY": ""}, None, None),
        ({"HTTPS_PROXY": PROXY}, PROXY, None),
        ({"HTTP_PROXY": PROXY}, None, PROXY),
        ({"https_proxy": PROXY, "http_proxy": "http://other:1"}, PROXY, "http://other:1"),
        ({"HTTPS_PROXY": PROXY, "https_proxy": "http://other:1"}, PROXY, None),
        ({"HTTPS_PROXY": "", "https_proxy": PROXY}, PROXY, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "other", "no_proxy": "quay.io"}, PROXY, None),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "quay.io"}, None, None),
        ({"HTTPS_PROXY": "proxy.example:3128"}, PROXY, None),
        ({"HTTPS_PROXY": "proxy"}, "http://proxy", None),
        ({"HTTPS_PROXY": "10.0.0.1:3128"}, "http://10.0.0.1:3128", None),
        ({"HTTPS_PROXY": "alice:secret@proxy:3128"}, "http://alice:secret@proxy:3128", None),
        ({"HTTPS_PROXY": "https://proxy.example"}, "https://proxy.example", None),
        ({"ALL_PROXY": PROXY}, None, None),
    ],
)
def test_a_variable_names_the_proxy_of_its_scheme(environ: dict[str, str], https: str | None, http: str | None) -> None:
    """Without a scheme it speaks HTTP. Upper case wins over lower case, unless it has no value."""
    proxies = Proxies.from_environ(environ)
    assert (https, http) == (proxies.of(URL("https://quay.io/v2/")), proxies.of(URL("http://quay.io/v2/")))


@pytest.mark.parametrize("value", ["http://", "http://alice:secret@proxy:port", "proxy:port", ":3128", "http://[::1"])
def test_what_is_no_url_is_refused(value: str) -> None:
    """The message names the variable, and does not quote a password."""
    with pytest.raises(InvalidProxy) as error:
        Proxies.from_environ({"http_proxy": value})
    assert "HTTP_PROXY: wants the URL of a proxy, or host:port" == str(error.value)


def test_nothing_shows_a_password() -> None:
    """A proxy may want one, and its URL is kept as long as the process lives."""
    assert "secret" not in repr(Proxies.from_environ({"HTTPS_PROXY": "http://alice:secret@proxy:3128"}))


def test_an_address_is_found_in_every_spelling_of_a_url() -> None:
    """A name is no address."""
    assert [address_in(URL(f"https://{host}/")) for host in ("[::1]:5000", "10.0.0.1", "quay.io")] == [
        "::1",
        "10.0.0.1",
        "",
    ]
