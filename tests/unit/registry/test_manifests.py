"""Reading manifests, indexes and configs, also hostile ones."""

import hashlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.registry.manifests import (
    BrokenImage,
    Descriptor,
    ImageManifest,
    Index,
    InvalidImage,
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
    """They are named by digest, in order."""
    config, *layers = SINGLE.blobs
    assert ImageManifest(config=config, layers=tuple(layers)) == parse_image(SINGLE.body)


def test_an_index_lists_an_image_for_each_platform() -> None:
    """The order is that of the index; the platform may be left out."""
    amd64, arm64 = BOTH.manifests
    expected = (
        Descriptor(digest=amd64, platform=Platform.of("linux", "amd64")),
        Descriptor(digest=arm64, platform=Platform.of("linux", "arm64")),
    )
    assert Index(manifests=expected) == parse_image(BOTH.body)
    without_platforms = {"manifests": [{"digest": DIGEST}, {"digest": DIGEST, "platform": {"os": "linux"}}]}
    assert Index(manifests=(Descriptor(digest=DIGEST, platform=None),) * 2) == parse_image(
        json.dumps(without_platforms).encode()
    )


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_a_body_has_to_match_its_digest(algorithm: str) -> None:
    """The digest names the algorithm; without a digest it is sha256."""
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
def test_a_body_that_should_be_an_image_is_broken(
    body: bytes, digest: str, media_type: str, error: type[Exception]
) -> None:
    """Without a digest or media type of an image it may be anything, such as the login page of a Wi-Fi."""
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
def test_a_malformed_body_is_no_image(content: object) -> None:
    """If one part is malformed, the whole body is refused."""
    with pytest.raises(InvalidImage):
        parse_image(json.dumps(content).encode())


def test_a_body_of_nothing_but_brackets_is_refused_quickly() -> None:
    """It is not parsed, since four megabytes of it would stop all other work."""
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
def test_a_config_names_the_platform_of_its_image(config: dict[str, Any], expected: Platform | None) -> None:
    """It may leave out the operating system or the architecture; then there is none."""
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
def test_any_body_is_read_or_refused(body: bytes) -> None:
    """No body raises another error than `InvalidImage`."""
    for read in (parse_image, parse_platform):
        try:
            read(body)
        except InvalidImage:
            continue
