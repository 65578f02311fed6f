"""Mappings: what users, OpenShift, container runtimes and kube-image-keeper call equal, as equivalences."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubectl_saffire.mappings import Equivalence, FileMappings, InvalidMapping, merged, parse_file, parse_option

WANTED = "such as quay.io/acme=ghcr.io/acme"


def paths_of(mappings: FileMappings) -> list[tuple[str, ...]]:
    """Return the paths of all equivalences of a file."""
    return [equivalence.paths for equivalence in mappings.equivalences]


def mirror_set(kind: str = "ImageDigestMirrorSet", **mirrors_by_source: list[str]) -> dict[str, Any]:
    """Return a mirror set of OpenShift; in the names of sources, `__` stands for a dot."""
    list_field = {"ImageDigestMirrorSet": "imageDigestMirrors", "ImageTagMirrorSet": "imageTagMirrors"}[kind]
    entries = [
        {"source": source.replace("__", "."), "mirrors": mirrors} for source, mirrors in mirrors_by_source.items()
    ]
    return {
        "apiVersion": "config.openshift.io/v1",
        "kind": kind,
        "metadata": {"name": "mirrors"},
        "spec": {list_field: entries},
    }


def kuik(kind: str, name: str = "acme", **spec: Any) -> dict[str, Any]:
    """Return an object of kube-image-keeper."""
    return {"apiVersion": "kuik.enix.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


# The command line


@pytest.mark.parametrize(
    ("paths", "option"),
    [
        (("quay.io/acme", "ghcr.io/acme"), "quay.io/acme=ghcr.io/acme"),
        (("quay.io", "registry.example:5000/quay"), "quay.io=registry.example:5000/quay"),
        (("nginx", "ghcr.io/acme/nginx"), "nginx=ghcr.io/acme/nginx"),
        (("quay.io/acme", "ghcr.io"), "quay.io/acme/*=ghcr.io/"),
        (("localhost:5000", "[::1]:5000/a"), "localhost:5000=[::1]:5000/a"),
    ],
)
def test_a_mapping_is_read(paths: tuple[str, str], option: str) -> None:
    """Each side is a registry, a part of one or a repository, with or without an asterisk at its end."""
    assert paths == parse_option(option).paths


@pytest.mark.parametrize(
    "option",
    [
        "",
        "quay.io/acme",
        "=",
        "quay.io=",
        "=quay.io",
        "a.io=b.io=c.io",
        "https://quay.io=ghcr.io",
        "quay.io/acme/web:v1=ghcr.io/acme/web",
        f"quay.io/acme/web@sha256:{64 * 'a'}=ghcr.io/acme/web",
        "*.example.com=ghcr.io",
        "quay.io/Acme=ghcr.io/acme",
        "quay.io/$(id)=ghcr.io",
        "quay.io\n=ghcr.io",
        "quay.io/acme=QUAY.io:443/acme/*",
        f"quay.io/{300 * 'a'}=ghcr.io",
    ],
)
def test_a_mapping_that_is_none_is_refused_with_an_example(option: str) -> None:
    """The message is printable, and shows how a mapping looks."""
    with pytest.raises(InvalidMapping, match=WANTED) as refused:
        parse_option(option)
    assert str(refused.value).isprintable()


@given(st.text())
def test_no_text_breaks_the_command_line(option: str) -> None:
    """Whatever a user types is a mapping, or is refused in words."""
    try:
        assert 2 == len(parse_option(option).paths)
    except InvalidMapping as refused:
        assert str(refused).isprintable()  # noqa: PT017 - there may be none


# OpenShift


@pytest.mark.parametrize("kind", ["ImageDigestMirrorSet", "ImageTagMirrorSet"])
def test_a_mirror_set_of_openshift_is_read(kind: str) -> None:
    """The source comes first, and its mirrors follow in their order; a source without mirrors says nothing."""
    manifest = mirror_set(kind, quay__io=["b.io/quay", "a.io/quay"], ghcr__io=[])
    mappings = parse_file(yaml.safe_dump(manifest))
    assert ([("quay.io", "b.io/quay", "a.io/quay")], ()) == (paths_of(mappings), mappings.remarks)


def test_a_list_of_kubectl_is_read() -> None:
    """What kubectl get -o json prints is a List, and a file may have several documents."""
    sets = {"apiVersion": "v1", "kind": "List", "items": [mirror_set(quay__io=["a.io"]), mirror_set(ghcr__io=["b.io"])]}
    assert [("quay.io", "a.io"), ("ghcr.io", "b.io")] == paths_of(parse_file(json.dumps(sets)))
    documents = yaml.safe_dump_all([mirror_set(quay__io=["a.io"]), None, mirror_set(ghcr__io=["b.io"])])
    assert [("quay.io", "a.io"), ("ghcr.io", "b.io")] == paths_of(parse_file(documents))


def test_a_source_with_an_asterisk_is_left_out_and_named() -> None:
    """Saffire has no entry for all subdomains of a domain; the other entries of the file count."""
    manifest = mirror_set(quay__io=["a.io"])
    manifest["spec"]["imageDigestMirrors"].insert(0, {"source": "*.redhat.io", "mirrors": ["b.io"]})
    mappings = parse_file(yaml.safe_dump(manifest))
    assert [("quay.io", "a.io")] == paths_of(mappings)
    (remark,) = mappings.remarks
    assert remark.startswith("*.redhat.io is left out: ")


# registries.conf

REGISTRIES_CONF = """
unqualified-search-registries = ["docker.io"]

[[registry]]
prefix = "example.com/foo"
location = "internal.example.net/bar"

[[registry.mirror]]
location = "mirror-0.local/foo"

[[registry.mirror]]
location = "mirror-1.local/mirrors/foo"
insecure = true

[[registry]]
location = "quay.io"
[[registry.mirror]]
location = "registry.example.com/quay"

[[registry]]
prefix = "gone.example.com"
location = "gone.example.com/really"
blocked = true
[[registry.mirror]]
location = "ghcr.io/gone"

[[registry]]
location = "localhost:5000"
insecure = true

[[registry]]
prefix = "*.example.com"
location = "ghcr.io/example"
"""


def test_a_registries_conf_is_read() -> None:
    """Images are named by the prefix; mirrors come before the location, and a blocked location is no equivalent."""
    mappings = parse_file(REGISTRIES_CONF)
    assert [
        ("example.com/foo", "mirror-0.local/foo", "mirror-1.local/mirrors/foo", "internal.example.net/bar"),
        ("quay.io", "registry.example.com/quay"),
        ("gone.example.com", "ghcr.io/gone"),
    ] == paths_of(mappings)
    (remark,) = mappings.remarks
    assert remark.startswith("*.example.com is left out: ")


# kube-image-keeper


@pytest.mark.parametrize("kind", ["ReplicatedImageSet", "ClusterReplicatedImageSet"])
def test_a_replicated_image_set_is_read(kind: str) -> None:
    """Upstreams with a lower priority come first, and those that are not to be used any more come last."""
    upstreams = [
        {"registry": "gone.io", "path": "/acme", "discardAlternative": True},
        {"registry": "docker.io", "path": "/acme/", "priority": 30},
        {"registry": "quay.io", "path": "acme-org", "priority": 10},
    ]
    mappings = parse_file(yaml.safe_dump(kuik(kind, upstreams=upstreams)))
    assert ([("quay.io/acme-org", "docker.io/acme", "gone.io/acme")], ()) == (paths_of(mappings), mappings.remarks)


def test_a_filter_of_images_is_named() -> None:
    """A filter is a pattern, which no set of equivalent repositories can say."""
    upstreams = [
        {"registry": "docker.io", "path": "/acme", "imageFilter": {"include": ["/acme/web:.+"]}},
        {"registry": "quay.io", "path": "/acme"},
    ]
    mappings = parse_file(yaml.safe_dump(kuik("ReplicatedImageSet", upstreams=upstreams)))
    assert [("docker.io/acme", "quay.io/acme")] == paths_of(mappings)
    (remark,) = mappings.remarks
    assert remark.startswith("ReplicatedImageSet/acme: imageFilter is not taken over")


def test_an_image_alternative_is_read() -> None:
    """Its entries are repositories or groups of them; what is unavailable comes last."""
    repositories = [{"repository": "gone.io/acme/web", "unavailable": True}, {"repository": "quay.io/acme/web"}]
    groups = [{"repositoryGroup": "quay.io/acme"}, {"repositoryGroup": "ghcr.io/acme"}]
    objects = [kuik("ImageAlternative", alternatives=repositories), kuik("ImageAlternative", alternatives=groups)]
    assert [("quay.io/acme/web", "gone.io/acme/web"), ("quay.io/acme", "ghcr.io/acme")] == paths_of(
        parse_file(yaml.safe_dump_all(objects))
    )


@pytest.mark.parametrize("kind", ["ImageSetMirror", "ClusterImageSetMirror", "ImageMirror"])
def test_a_mirror_without_source_is_left_out_with_what_to_type(kind: str) -> None:
    """A mirror of kube-image-keeper copies what patterns select, so only its user knows from which registries."""
    mappings = parse_file(yaml.safe_dump(kuik(kind, mirrors=[{"registry": "registry.example.com", "path": "/m"}])))
    (remark,) = mappings.remarks
    assert [] == paths_of(mappings)
    assert remark.startswith(f"{kind}/acme is left out: ")
    assert "--map " in remark


# Files that are no mappings


@pytest.mark.parametrize(
    ("words", "content"),
    [
        ("only version 2 has mirrors", ""),
        ("only version 2 has mirrors", "[registries.search]\nregistries = ['registry1.com']"),
        ("registry: not a list of objects", "registry = 'quay.io'"),
        ("location: not a string", "[[registry]]\nlocation = 1"),
        ("neither a registries.conf", "quay.io=ghcr.io"),
        ("neither a registries.conf", "- quay.io"),
        ("neither a registries.conf", "a: [b"),
        ("neither a registries.conf", "a: 2001-99-99"),
        ("neither a registries.conf", 10_000 * "["),
        (
            "Deployment: wants a registries.conf, or one of ImageDigestMirrorSet",
            "apiVersion: apps/v1\nkind: Deployment",
        ),
        ("ReplicatedImageSet: wants", "apiVersion: example.com/v1\nkind: ReplicatedImageSet"),
        ("an object without kind: wants", "a: b"),
        ("kind: not a string", "kind: 1"),
        ("mirrors: not a list of strings", yaml.safe_dump(mirror_set(quay__io=[1]))),  # type: ignore[list-item]
        ("spec.imageDigestMirrors: not a list of objects", yaml.safe_dump(mirror_set()).replace("[]", "x")),
        ("items: not a list of objects", "kind: List\nitems: [1]"),
    ],
)
def test_a_file_that_declares_no_mirrors_is_refused(words: str, content: str) -> None:
    """The message names what is wrong, or what the file should be."""
    with pytest.raises(InvalidMapping) as refused:
        parse_file(content)
    assert words in str(refused.value)
    assert str(refused.value).isprintable()


@given(st.text())
def test_no_text_breaks_a_file(content: str) -> None:
    """Whatever a file has in it is read, or is refused in words."""
    try:
        parse_file(content)
    except InvalidMapping as refused:
        assert str(refused).isprintable()  # noqa: PT017 - there may be none


# Several mappings


def test_mappings_of_the_same_path_become_one_set() -> None:
    """The first spelling of a path stays, equal paths are there once, and the order is the user's."""
    options = ["quay.io/acme=ghcr.io/acme", "a.io=b.io", "Quay.io:443/acme=c.io/acme", "quay.io/acme=GHCR.io/acme"]
    assert (
        Equivalence(("quay.io/acme", "ghcr.io/acme", "c.io/acme")),
        Equivalence(("a.io", "b.io")),
    ) == merged(map(parse_option, options))
