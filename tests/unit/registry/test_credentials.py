"""Finding the pull secret for a repository by the kubelet's rules, whatever a Secret contains."""

import base64
import gc
import itertools
import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.registry.credentials import Credential, Keyring, closest
from saffire.registry.reference import parse_repository


def b64(content: str | bytes) -> str:
    """Return base64, the form of `data` in a Secret."""
    return base64.b64encode(content if isinstance(content, bytes) else content.encode()).decode()


def secret(auths: object, *, old: bool = False, name: str = "pull") -> dict[str, Any]:
    """Return a pull secret of the newer or the older type."""
    kind, key = ("dockercfg", ".dockercfg") if old else ("dockerconfigjson", ".dockerconfigjson")
    content = auths if old else {"auths": auths}
    data = {key: b64(json.dumps(content))}
    return {"metadata": {"name": name}, "type": f"kubernetes.io/{kind}", "data": data}


def entry(user: str) -> dict[str, str]:
    """Return an entry for a user."""
    return {"auth": b64(f"{user}:password of {user}")}


def credential(user: str) -> Credential:
    """Return the credential in the entry for a user."""
    return Credential(username=user, password=f"password of {user}")


def users(keyring: Keyring, repository: str) -> list[str]:
    """Return the user names to try, in order."""
    return [credential.username for credential in keyring.credentials_for(parse_repository(repository))]


@pytest.mark.parametrize(
    ("location", "repository", "matches"),
    [
        ("ghcr.io", "ghcr.io/acme/web", True),
        ("https://ghcr.io", "ghcr.io/acme/web", True),
        ("http://ghcr.io/", "ghcr.io/acme/web", True),
        ("ghcr.io/v1/", "ghcr.io/acme/web", True),
        ("https://ghcr.io/v2/", "ghcr.io/acme/web", True),
        ("https://ghcr.io/v2/acme", "ghcr.io/acme/web", True),
        ("https://ghcr.io/v2/acme", "ghcr.io/other/web", False),
        ("ghcr.io/acme", "ghcr.io/acme/web", True),
        ("ghcr.io/acme/web", "ghcr.io/acme/web", True),
        ("ghcr.io/acme/we", "ghcr.io/acme/web", True),  # a beginning of the text, not of the segments
        ("ghcr.io/acme/web/", "ghcr.io/acme/web", False),
        ("ghcr.io/other", "ghcr.io/acme/web", False),
        ("quay.io", "ghcr.io/acme/web", False),
        ("registry.example.com:5000", "registry.example.com:5000/web", True),
        ("registry.example.com", "registry.example.com:5000/web", False),
        ("registry.example.com:5000", "registry.example.com/web", False),
        ("registry.example.com:443", "registry.example.com/web", False),
        ("[::1]:5000", "[::1]:5000/web", True),
        ("[::1]", "[::1]/web", False),  # read as a glob
        ("*.example.com", "eu.example.com/web", True),
        ("*.example.com", "example.com/web", False),
        ("*.example.com", "a.eu.example.com/web", False),
        ("*.*.example.com", "a.eu.example.com/web", True),
        ("*.dkr.ecr.*.amazonaws.com", "1234.dkr.ecr.eu-west-1.amazonaws.com/web", True),
        ("prefix*.example.com", "prefix-eu.example.com/web", True),
        ("prefix*.example.com", "eu.example.com/web", False),
        ("*", "ghcr.io/acme/web", False),
        ("*.io", "ghcr.io/acme/web", True),
        ("*.*.*", "eu.example.com/web", True),
        ("**.example.com", "eu.example.com/web", True),
        ("e*u.example.com", "eu.example.com/web", True),
        ("eu*eu.example.com", "eu.example.com/web", False),
        ("*eu*.example.com", "prefix-eu-1.example.com/web", True),
        ("a*b*c.example.com", "axcxb.example.com/web", False),
        ("a*b*c.example.com", "axxc.example.com/web", False),
        ("a*b*c.example.com", "axbxbxc.example.com/web", True),
        ("a*bc*c.example.com", "abc.example.com/web", False),
        ("*", f"{'a' * 63}:5000/web", False),
        ("*:5000", f"{'a' * 63}:5000/web", True),
        ("*:5000", f"{'a' * 64}:5000/web", False),  # such a host has no address
        ("b\u00fccher.example.com", "xn--bcher-kva.example.com/web", False),
        ("GHCR.io", "ghcr.io/acme/web", False),
        ("docker.io", "nginx", True),
        ("docker.io/library", "nginx", True),
        ("index.docker.io", "nginx", True),
        ("https://index.docker.io/v1/", "acme/web", True),
        ("index.docker.io/acme", "acme/web", False),
        ("registry-1.docker.io", "acme/web", False),
        ("https://index.docker.io/v1/", "quay.io/acme/web", False),
        # The kubelet compares a registry as the image spells it.
        ("registry-1.docker.io", "registry-1.docker.io/acme/web", True),
        ("docker.io", "registry-1.docker.io/acme/web", False),
        ("https://index.docker.io/v1/", "registry-1.docker.io/acme/web", False),
        ("quay.io:443", "quay.io:443/acme/web", True),
        ("quay.io", "quay.io:443/acme/web", False),
        ("GHCR.io", "GHCR.io/acme/web", True),
    ],
)
def test_a_location_covers_some_repositories(location: str, repository: str, matches: bool) -> None:  # noqa: FBT001 - the row's answer
    """It needs as many labels, each maybe a glob, the same port, and a prefix of the path. Docker Hub has two names."""
    keyring = Keyring.of([secret({location: entry("alice")})])
    assert (["alice"] if matches else []) == users(keyring, repository)
    assert () == keyring.faults


def test_the_most_specific_comes_first() -> None:
    """The others follow, to be tried in turn; entries of one location keep the order of their Secrets."""
    secrets = [
        secret({"ghcr.io": entry("host"), "ghcr.io/acme/web": entry("image"), "*.io": entry("glob")}),
        secret({"ghcr.io/acme": entry("team"), "ghcr.io": entry("another")}, old=True),
    ]
    assert ["image", "team", "host", "another", "glob"] == users(Keyring.of(secrets), "ghcr.io/acme/web")


def test_docker_hub_s_second_name_counts_only_without_the_first() -> None:
    """An entry for `docker.io` takes precedence over one for `index.docker.io`."""
    both = {"https://index.docker.io/v1/": entry("index"), "docker.io": entry("name")}
    assert ["name"] == users(Keyring.of([secret(both)]), "nginx")


def test_the_same_credential_is_tried_once() -> None:
    """Several entries may contain it."""
    both = {"ghcr.io": entry("alice"), "ghcr.io/acme": entry("alice")}
    assert ["alice"] == users(Keyring.of([secret(both)]), "ghcr.io/acme/web")


@pytest.mark.parametrize(
    "auth_entry",
    [
        {"auth": b64("alice:a:b")},
        {"auth": b64("alice:a:b").rstrip("=")},
        {"auth": b64("alice:a:b") + "\n"},
        {"username": "alice", "password": "a:b"},
        {"auth": b64("alice:a:b"), "username": "mallory", "password": "x", "email": "a@example.com"},
        {"auth": None, "username": "alice", "password": "a:b"},
    ],
)
def test_an_entry_has_one_credential(auth_entry: dict[str, str]) -> None:
    """`auth`, in base64 with or without padding, takes precedence over `username` and `password`."""
    keyring = Keyring.of([secret({"ghcr.io": auth_entry})])
    expected = (Credential(username="alice", password="a:b"),)  # noqa: S106 - a made-up password
    assert expected == keyring.credentials_for(parse_repository("ghcr.io/acme/web"))


def test_an_entry_without_credential_is_skipped() -> None:
    """Docker writes such entries if a credential helper keeps the password."""
    keyring = Keyring.of([secret({"ghcr.io": {}, "quay.io": {"auth": ""}})])
    assert ([], ()) == (users(keyring, "ghcr.io/acme/web"), keyring.faults)


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (5, "not an object"),
        (None, "not an object"),
        ({"auth": 5}, "its auth, username or password is not a string"),
        ({"username": ["hidden"]}, "its auth, username or password is not a string"),
        ({"auth": "hidden!"}, "its auth is not user:password in base64"),
        ({"auth": b64("hidden")}, "its auth is not user:password in base64"),
        ({"auth": b64(b"\xff:hidden")}, "its auth is not user:password in base64"),
        ({"username": "hidden", "password": "\ud800"}, "its username or password cannot be written in UTF-8"),
    ],
)
def test_a_bad_entry_leaves_the_others_good(bad: object, fault: str) -> None:
    """The fault names the Secret and the number of the entry, and does not quote it."""
    keyring = Keyring.of([secret({"quay.io/hidden": bad, "ghcr.io": entry("alice")})])
    assert ["alice"] == users(keyring, "ghcr.io/acme/web")
    assert (f"Secret/pull: entry 1: {fault}",) == keyring.faults


@pytest.mark.parametrize(
    "location",
    [
        *("", "https://", "/acme", "user@ghcr.io", "ghcr.io?x", "gh cr.io", "x" * 513),
        # Go's net/url reads none of these, so the kubelet ignores them, though filepath.Match has a meaning for them.
        *("[a-h]hcr.io", "[^a-h]hcr.io", "[ghcr.io", "g[h]cr.io", "ghcr.i[o", "ghcr.io]", r"ghcr\.io", "gh^cr.io"),
        *("*.example.com:*", "ghcr.io:443:443", "::1"),
    ],
)
def test_a_location_is_a_host_with_a_path(location: str) -> None:
    """An entry for anything else is a fault."""
    keyring = Keyring.of([secret({location: entry("alice")})])
    assert ("Secret/pull: entry 1: not for a host",) == keyring.faults


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        ({"type": "Opaque"}, "not of a type that holds registries' credentials"),
        ({"data": {}}, "its .dockerconfigjson is not JSON in base64"),
        ({"data": {".dockerconfigjson": "hidden!"}}, "its .dockerconfigjson is not JSON in base64"),
        ({"data": {".dockerconfigjson": b64("hidden")}}, "its .dockerconfigjson is not JSON in base64"),
        ({"data": {".dockerconfigjson": b64("[" * 100_000)}}, "its .dockerconfigjson is not JSON in base64"),
        ({"data": {".dockerconfigjson": b64("[]")}}, "its .dockerconfigjson holds no object of registries"),
        ({"data": {".dockerconfigjson": b64("{}")}}, "its .dockerconfigjson holds no object of registries"),
        ({"data": {".dockerconfigjson": b64('{"auths": [1]}')}}, "its .dockerconfigjson holds no object of registries"),
        ({"data": {".dockerconfigjson": "x" * 1_500_001}}, "too large"),
        ({"data": {".dockerconfigjson": 5}}, "data..dockerconfigjson: not a string"),
        ({"data": 5}, "data: not an object"),
    ],
)
def test_a_bad_secret_leaves_the_others_good(bad: dict[str, Any], fault: str) -> None:
    """The fault names the Secret, and does not quote it."""
    keyring = Keyring.of([secret({}) | {"metadata": {"name": "bad"}} | bad, secret({"ghcr.io": entry("alice")})])
    assert ["alice"] == users(keyring, "ghcr.io/acme/web")
    assert (f"Secret/bad: {fault}",) == keyring.faults


def test_a_secret_without_a_name_is_a_fault_too() -> None:
    """The fault says that it is about a Secret."""
    assert ("a Secret: metadata: not an object",) == Keyring.of([{"metadata": 5}]).faults


def test_a_secret_of_a_thousand_entries_is_read_in_part() -> None:
    """Only its first 512 entries are read, and a fault says so."""
    keyring = Keyring.of([secret({f"r{number}.example.com": entry("alice") for number in range(1000)})])
    assert ["alice"] == users(keyring, "r511.example.com/web")
    assert [] == users(keyring, "r512.example.com/web")
    assert ("Secret/pull: only its first 512 entries are read",) == keyring.faults


@given(st.text("ab*", max_size=12), st.text("ab", min_size=1, max_size=12))
def test_a_star_stands_for_any_text_of_a_label(pattern: str, label: str) -> None:
    """Any pattern of stars covers the same labels as a matcher that tries every length for every star."""
    keyring = Keyring.of([secret({f"{pattern}.example.com": entry("alice")})])
    assert (["alice"] if covers(pattern, label) else []) == users(keyring, f"{label}.example.com/web")


def covers(pattern: str, label: str) -> bool:
    """Tell whether a pattern matches a label, by trying every length for every star."""
    if not pattern or not label:
        return pattern.strip("*") == label
    if pattern[0] == "*":
        return any(covers(pattern[1:], label[length:]) for length in range(len(label) + 1))
    return pattern[0] == label[0] and covers(pattern[1:], label[1:])


@pytest.mark.parametrize(
    "pattern", ["*a" * 230, "*a" * 50 + "*" * 350, "*" * 460, "*aa" * 150, "*" + "a" * 31 + "*" * 400]
)
def test_patterns_of_stars_cost_about_as_much_as_plain_hosts(pattern: str) -> None:
    """The author of a Secret cannot stop Saffire with 512 patterns for a host whose label is as long as can be."""
    host = f"{'a' * 63}:5000"
    hostile = [Keyring.of([secret(hostile_hosts(pattern, tries))]) for tries in range(5)]
    plain = [Keyring.of([secret({host: entry("alice")})] * 512)] * 5
    assert cpu_seconds(hostile, f"{host}/web") < 25 * cpu_seconds(plain, f"{host}/web")


def hostile_hosts(pattern: str, tries: int) -> dict[str, object]:
    """Return 512 entries whose hosts begin with this pattern; each host is another, also from those of other tries."""
    numbers = range(512 * tries, 512 * tries + 512)
    endings = ["".join("**a" if number >> bit & 1 else "*a" for bit in range(12)) for number in numbers]
    return {f"{pattern}{ending}:5000": entry("alice") for ending in endings}


def cpu_seconds(keyrings: list[Keyring], repository: str) -> float:
    """Return the least processor time that it takes to find the credentials for a repository in one of the keyrings."""
    tries = []
    for keyring in keyrings:
        before = time.process_time()
        users(keyring, repository)
        tries.append(time.process_time() - before)
    return min(tries)


def test_nothing_of_a_pattern_outlives_its_secret() -> None:
    """Saffire keeps no memory for the patterns of strangers."""
    users(Keyring.of([secret({"*.example.com": entry("alice")})]), "eu.example.com/web")
    tracemalloc.start()
    try:
        for number in range(512):
            users(Keyring.of([secret({f"{'*a' * 99}{number}.example.com": entry("alice")})]), "eu.example.com/web")
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("locations", "repository", "expected"),
    [
        (["ghcr.io", "ghcr.io/acme", "ghcr.io/acme/web/x"], "ghcr.io/acme/web", "ghcr.io/acme"),
        (["quay.io", "ghcr.io:5000"], "ghcr.io/acme/web", None),
        (["registry.corp"], "registry.corp:5000/web", None),
        (["acme"], "acme/web", None),
        (["docker.io"], "nginx", "docker.io"),
        (["index.docker.io/library", "docker.io"], "nginx", "index.docker.io/library"),
        (["", "a b"], "nginx", None),
        ([], "nginx", None),
    ],
)
def test_the_entries_of_a_source_cover_repositories_too(
    locations: list[str], repository: str, expected: str | None
) -> None:
    """Of several that cover a repository, the most specific counts."""
    assert expected == closest(locations, parse_repository(repository))


@pytest.mark.parametrize(
    ("locations", "repositories"),
    [
        (("ghcr.io", "GHCR.io", "ghcr.io:443"), ("ghcr.io/acme/web", "GHCR.IO/acme/web", "ghcr.io:443/acme/web")),
        (("ghcr.io/acme", "Ghcr.io:443/acme"), ("ghcr.io/acme/web", "GHCR.IO:443/acme/web")),
        (
            ("docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"),
            ("nginx", "docker.io/acme/web", "registry-1.docker.io/library/nginx", "index.docker.io/acme/web"),
        ),
        (("[fd00::A]", "[fd00::a]:443"), ("[fd00::a]/web", "[FD00::A]:443/web")),
    ],
)
def test_the_spelling_of_a_registry_does_not_count_in_a_source(
    locations: tuple[str, ...], repositories: tuple[str, ...]
) -> None:
    """An entry of a source covers what a set of the same source may name, also in another spelling."""
    for location, repository in itertools.product(locations, repositories):
        assert location == closest(["quay.io", location], parse_repository(repository))


def test_nothing_shows_a_secret() -> None:
    """`repr` of a credential, a keyring and its entries shows no user name and no password."""
    keyring = Keyring.of([secret({"ghcr.io": entry("alice")})])
    shown = f"{keyring} {keyring.entries} {credential('alice')}"
    assert "alice" not in shown
    assert "password of" not in shown


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["auths", "auth", "username", "ghcr.io", "[", "*.io/["]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(ANYTHING, st.booleans())
def test_any_secret_is_read(content: object, old: bool) -> None:  # noqa: FBT001 - drawn
    """No content of a Secret raises an error."""
    users(Keyring.of([secret(content, old=old)]), "ghcr.io/acme/web")
