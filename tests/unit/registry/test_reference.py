"""References: the grammar, its test vectors, and properties that hold for all references."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.registry.reference import (
    InvalidReference,
    Reference,
    Repository,
    mentions,
    parse_repository,
    same_image,
    same_repository,
)
from testkit import RECORDINGS
from testkit.strategies import digests, reference_texts, references, repositories, repository_texts

VECTORS = json.loads((RECORDINGS / "reference-vectors.json").read_text())
# distribution/reference reads this as a name without a domain, which no runtime can pull.
REFUSED_ON_PURPOSE = "ex_ample.com/app"
# distribution/reference leaves these domains as they are spelled. Saffire takes them for one registry each.
ONE_REGISTRY = {
    "registry-1.docker.io/library/nginx:1.19": "docker.io",
    "DOCKER.IO/library/nginx": "docker.io",
    "Quay.io/team/app:v1": "quay.io",
    "quay.io:443/team/app:v1": "quay.io",
}
DIGEST = "sha256:" + "0123456789abcdef" * 4


def vectors(*, valid: bool) -> list[Any]:
    """Return the rows that distribution/reference accepts, or those that it refuses."""
    rows = [row for row in VECTORS if ("error" not in row and row["input"] != REFUSED_ON_PURPOSE) is valid]
    return [pytest.param(row, id=repr(row["input"])[:60]) for row in rows]


@pytest.mark.parametrize("row", vectors(valid=True))
def test_a_reference_is_split_as_distribution_splits_it(row: dict[str, str]) -> None:
    """Domain, path, tag and digest are those of the reference implementation."""
    reference = Reference.parse(row["input"])
    assert (f"{row['domain']}/{row['path']}", row["tag"], row["digest"]) == (
        reference.repository.spelled,
        reference.tag,
        reference.digest,
    )
    domain = ONE_REGISTRY.get(row["input"], row["domain"])
    assert Repository(domain=domain, path=row["path"]) == reference.repository


@pytest.mark.parametrize("row", vectors(valid=True))
def test_the_familiar_form_is_the_same_repository(row: dict[str, str]) -> None:
    """Docker's short form of a name is normalised to the long one."""
    expected = Repository(domain=ONE_REGISTRY.get(row["input"], row["domain"]), path=row["path"])
    # With a tag, since 64 hexadecimal digits alone would be an image's id.
    assert expected == Reference.parse(f"{row['familiar']}:tag").repository


@pytest.mark.parametrize("row", vectors(valid=False))
def test_a_text_that_distribution_refuses_is_refused(row: dict[str, str]) -> None:
    """A runtime refuses it, too."""
    with pytest.raises(InvalidReference):
        Reference.parse(row["input"])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("quay.io/" + "a" * 2000, id="long"),
        pytest.param(f"nginx@{DIGEST}@{DIGEST}", id="two-digests"),
        pytest.param(f"nginx@{DIGEST}:tag", id="tag-after-digest"),
        pytest.param("nginx@sha256", id="no-hex"),
        pytest.param("quay.io/*", id="wildcard"),
        pytest.param("[::1/app", id="open-bracket"),
        pytest.param("a" * 64, id="an-image-id"),
    ],
)
def test_a_text_that_no_runtime_accepts_is_refused(text: str) -> None:
    """The test vectors do not have these."""
    with pytest.raises(InvalidReference):
        Reference.parse(text)


@given(references())
def test_a_printed_reference_is_parsed_to_the_same(reference: Reference) -> None:
    """`parse` undoes `str` for every normalised reference."""
    assert reference == Reference.parse(str(reference))


@given(reference_texts())
def test_normalising_twice_changes_nothing(text: str) -> None:
    """The normalised form is its own normalised form."""
    normalised = str(Reference.parse(text))
    assert normalised == str(Reference.parse(normalised))


@given(repository_texts(), digests)
def test_tag_and_digest_are_kept_unchanged(text: str, digest: str) -> None:
    """The text after the repository stays, whatever the repository is normalised to."""
    assert f":V1.0_x@{digest}" == Reference.parse(f"{text}:V1.0_x@{digest}").suffix


@given(
    reference_texts(), st.data(), st.sampled_from([*map(chr, range(33)), "\x7f", "\x85", "\u00a0", "\u2028", "\u3000"])
)
def test_whitespace_and_control_characters_are_refused_anywhere(text: str, data: st.DataObject, sign: str) -> None:
    """No position in an image may have one, not even a newline at the end."""
    position = data.draw(st.integers(0, len(text)))
    with pytest.raises(InvalidReference):
        Reference.parse(text[:position] + sign + text[position:])


@given(st.text(max_size=40))
def test_any_text_is_a_reference_or_an_invalid_one(text: str) -> None:
    """No other error is raised, and an accepted reference can be printed and parsed again."""
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return
    assert reference == Reference.parse(str(reference))


@given(repositories())
def test_a_repository_is_a_reference_without_suffix(repository: Repository) -> None:
    """Its printed form is parsed to the same repository."""
    assert repository == parse_repository(str(repository))


@pytest.mark.parametrize("suffix", [":1.19", f"@{DIGEST}", f":1.19@{DIGEST}"])
def test_a_repository_has_neither_tag_nor_digest(suffix: str) -> None:
    """A text with either is refused; the suffix is not cut off."""
    with pytest.raises(InvalidReference, match="no tag and no digest"):
        parse_repository(f"nginx{suffix}")


@pytest.mark.parametrize(
    ("expected", "image", "other"),
    [
        (True, "nginx", "nginx"),
        (True, "nginx", "docker.io/library/nginx:latest"),
        (True, "index.docker.io/acme/web:1", "acme/web:1"),
        (True, "registry-1.docker.io/acme/web:1", "acme/web:1"),
        (True, "registry-1.docker.io/nginx:1", "nginx:1"),
        (True, "registry.hub.docker.com/library/nginx:1", "nginx:1"),
        (True, "Registry-1.Docker.IO:443/nginx:1", "nginx:1"),
        (True, "QUAY.io:443/acme/web:1", "quay.io/acme/web:1"),
        (True, "LOCALHOST:443/web:1", "localhost/web:1"),
        (True, "[2001:DB8::1]:443/web:1", "[2001:db8::1]/web:1"),
        (False, "quay.io:5000/acme/web:1", "quay.io/acme/web:1"),
        (False, "registry:443/web:1", "registry/web:1"),
        (False, "Registry/web:1", "registry/web:1"),
        (False, "hub.docker.com/acme/web:1", "acme/web:1"),
        (True, "NOT//valid", "NOT//valid"),
        (False, "nginx:1", "nginx:2"),
        (False, "nginx", f"nginx@{DIGEST}"),
        (False, "quay.io/acme/web:1", "ghcr.io/acme/web:1"),
        (False, "NOT//valid", "nginx"),
        (False, "nginx", ""),
    ],
)
def test_an_image_is_the_same_in_any_form(expected: bool, image: str, other: str) -> None:  # noqa: FBT001 - the row's expectation
    """Short and normalised forms name one image; with another tag, digest or repository it is another image."""
    assert expected is same_image(image, other)
    assert expected is same_image(other, image)


@pytest.mark.parametrize(
    ("expected", "image", "other"),
    [
        (True, "nginx:1", "docker.io/library/nginx:2"),
        (True, "nginx", f"nginx@{DIGEST}"),
        (False, "nginx:1", "quay.io/library/nginx:1"),
        (False, "acme/web", "acme/web-2"),
        (True, "NOT//valid", "nginx"),
    ],
)
def test_a_repository_is_the_same_whatever_the_version(expected: bool, image: str, other: str) -> None:  # noqa: FBT001 - the row's expectation
    """Tag and digest do not count. A text that is no reference counts as the same repository."""
    assert expected is same_repository(image, other)
    assert expected is same_repository(other, image)


@pytest.mark.parametrize(
    ("expected", "image"),
    [
        (True, "docker.io/library/nginx:1.19"),
        (True, "nginx"),
        (True, "nginx:2"),
        (False, "quay.io/library/nginx"),
        (False, "library/ngin"),
        (False, "docker.io/library/nginx/sub"),
        (False, "NOT//valid"),
    ],
)
@pytest.mark.parametrize("sign", [":", "@", '"', " "])
def test_a_message_mentions_a_repository(expected: bool, image: str, sign: str) -> None:  # noqa: FBT001 - the row's expectation
    """Runtimes write normalised names, in quotes and with tag or digest. A part of a longer name does not count."""
    assert expected is mentions(f'pulling "docker.io/library/nginx{sign} failed', image)


@pytest.mark.parametrize(
    "text", ["m.io/docker.io/library/nginx", "docker.io/library/nginx-2", "docker.io/library/nginx/x"]
)
def test_a_longer_name_is_another_repository(text: str) -> None:
    """More text before it, after it or below it makes it another name."""
    assert not mentions(text, "nginx")


@pytest.mark.parametrize(
    ("expected", "text", "image"),
    [
        (True, "QUAY.io:443/acme/web", "QUAY.io:443/acme/web:1"),
        (False, "quay.io/acme/web", "QUAY.io:443/acme/web:1"),
        (True, "registry-1.docker.io/nginx", "registry-1.docker.io/nginx:1"),
        (False, "docker.io/library/nginx", "registry-1.docker.io/nginx:1"),
        (True, "docker.io/library/nginx", "index.docker.io/nginx:1"),
    ],
)
def test_a_runtime_spells_a_registry_as_the_user_does(expected: bool, text: str, image: str) -> None:  # noqa: FBT001 - the row's expectation
    """Only Docker's short forms are spelled out in its messages."""
    assert expected is mentions(f'failed to resolve reference "{text}:1": not found', image)
