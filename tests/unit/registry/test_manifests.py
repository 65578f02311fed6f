"""Manifests, indexes and configs, as far as they make sense."""

import hashlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.registry.manifests import (
    BrokenImage,
    ImageManifest,
    Index,
    InvalidImage,
    Listed,
    digest_of,
    parse_image,
    parse_platform,
    read_image,
)
from saffire.registry.platforms import Platform
from testkit import oci_images as images

SINGLE, BOTH = images.image(), images.index("linux/amd64", "linux/arm64/v8")
DIGEST = "sha256:" + 64 * "a"


def test_a_manifest_names_config_and_layers() -> None:
    """By digest, in order."""
    config, *layers = SINGLE.blobs
    assert ImageManifest(config=config, layers=tuple(layers)) == parse_image(SINGLE.body)


def test_an_index_lists_an_image_for_each_platform() -> None:
    """In order; the platform may be left out."""
    amd64, arm64 = BOTH.manifests
    expected = (
        Listed(digest=amd64, platform=Platform.of("linux", "amd64")),
        Listed(digest=arm64, platform=Platform.of("linux", "arm64")),
    )
    assert Index(listed=expected) == parse_image(BOTH.body)
    unsaid = {"manifests": [{"digest": DIGEST}, {"digest": DIGEST, "platform": {"os": "linux"}}]}
    assert Index(listed=(Listed(digest=DIGEST, platform=None),) * 2) == parse_image(json.dumps(unsaid).encode())


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_a_body_hashes_to_its_digest(algorithm: str) -> None:
    """By the algorithm that the digest names; sha256 where none is named."""
    digest = f"{algorithm}:{hashlib.new(algorithm, SINGLE.body).hexdigest()}"
    assert (digest, parse_image(SINGLE.body)) == read_image(SINGLE.body, digest=digest, media_type="")
    assert SINGLE.digest == digest_of(SINGLE.body) == digest_of(SINGLE.body, "md5:1")


@pytest.mark.parametrize(
    ("body", "digest", "media_type", "error"),
    [
        (SINGLE.body, DIGEST, "", BrokenImage),
        (SINGLE.body[:-1], SINGLE.digest, "", BrokenImage),
        (b"{}", digest_of(b"{}"), "", BrokenImage),
        (b"{}", "", images.MANIFEST, BrokenImage),
        (b"", "", f"{images.INDEX}; charset=utf-8", BrokenImage),
        (b"<html>", "", "text/html", InvalidImage),
    ],
)
def test_what_promises_more_than_it_holds_is_broken(
    body: bytes, digest: str, media_type: str, error: type[Exception]
) -> None:
    """What promises nothing may be anything, as a page of somebody's Wi-Fi."""
    with pytest.raises(InvalidImage) as raised:
        read_image(body, digest=digest, media_type=media_type)
    assert error is raised.type


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"schemaVersion": 1, "fsLayers": []},
        {"config": {"digest": DIGEST}},
        {"config": {"digest": DIGEST}, "layers": [{"digest": "../../etc"}]},
        {"config": {"digest": DIGEST}, "layers": [{}]},
        {"config": {"digest": DIGEST}, "layers": [5]},
        {"config": {"digest": DIGEST}, "layers": [{"digest": DIGEST}] * 513},
        {"config": {}, "layers": []},
        {"config": {"digest": [DIGEST]}, "layers": []},
        {"manifests": [{"digest": DIGEST, "platform": {"os": 5}}]},
        {"manifests": [5]},
        {"manifests": [{"digest": DIGEST, "platform": {"os": "x" * 65, "architecture": "amd64"}}]},
        {"manifests": [{"digest": DIGEST}] * 513},
    ],
)
def test_what_makes_no_sense_is_no_image(content: object) -> None:
    """Nothing of it is believed."""
    with pytest.raises(InvalidImage):
        parse_image(json.dumps(content).encode())


def test_a_body_of_nothing_but_brackets_takes_no_time() -> None:
    """It is not even read: four megabytes of it would keep everybody waiting."""
    before = time.process_time()
    with pytest.raises(InvalidImage, match="too much of it"):
        parse_image(b'{"manifests": [' + b"{}," * 1_300_000 + b"{}]}")
    assert time.process_time() - before < 0.2


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"os": "linux", "architecture": "arm64", "variant": "v8"}, Platform.of("linux", "arm64")),
        ({"os": "linux"}, None),
        ({}, None),
    ],
)
def test_a_config_says_what_its_image_is_for(config: dict[str, Any], expected: Platform | None) -> None:
    """Or does not say."""
    assert expected == parse_platform(json.dumps(config).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["config", "layers", "manifests", "digest", "platform", "os", "urls"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40))
def test_any_body_is_an_image_or_none(body: bytes) -> None:
    """There is no other error."""
    for read in (parse_image, parse_platform):
        try:
            read(body)
        except InvalidImage:
            continue
