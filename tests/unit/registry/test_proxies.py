"""Through which proxy a request goes."""

import pytest
from yarl import URL

from saffire.registry.proxies import Proxies, address_in

PROXY = "http://proxy.example:3128"
PROXIES = Proxies({"https": PROXY})


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the exceptions of the environment, and nothing else about proxies."""
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "registry.corp,10.0.0.7,.svc.cluster.local")


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://quay.io/v2/", PROXY),
        ("https://quay.io:8443/v2/", PROXY),
        ("https://10.0.0.8/v2/", PROXY),
        ("http://quay.io/v2/", None),
        ("https://registry.corp/v2/", None),
        ("https://registry.corp:5000/v2/", None),
        ("https://mirror.svc.cluster.local/v2/", None),
        ("https://10.0.0.7/v2/", None),
        ("https://127.0.0.1:5000/v2/", None),
        ("https://[::1]:5000/v2/", None),
        ("https://localhost:5000/v2/", None),
    ],
)
def test_a_request_goes_through_the_proxy_of_its_scheme_unless_its_host_is_excepted(
    url: str, proxy: str | None
) -> None:
    """Hosts on loopback never do."""
    assert PROXIES.of(URL(url)) == proxy


def test_without_a_value_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty mapping means no proxy."""
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    assert Proxies().of(URL("https://quay.io/v2/")) == PROXY
    assert Proxies({}).of(URL("https://quay.io/v2/")) is None


def test_an_address_is_found_in_every_spelling_of_a_url() -> None:
    """A name is no address."""
    assert [address_in(URL(f"https://{host}/")) for host in ("[::1]:5000", "10.0.0.1", "quay.io")] == [
        "::1",
        "10.0.0.1",
        "",
    ]
