"""Reading manifests: an absent field is empty, and an error names the path of a field with the wrong type."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.kube.manifest import (
    InvalidManifest,
    annotation,
    is_label,
    is_subdomain,
    items,
    mapping,
    moment,
    name_of,
    number,
    pruned,
    strings,
    text,
    uid_of,
)
from testkit.strategies import json_values

Getter = Callable[..., Any]
MANIFEST = {"a": {"text": "t", "number": 7, "object": {"k": 1}, "objects": [{"k": 1}], "texts": ["x"], "null": None}}


@pytest.mark.parametrize(
    ("expected", "getter", "key"),
    [
        ("t", text, "text"),
        (7, number, "number"),
        ({"k": 1}, mapping, "object"),
        (({"k": 1},), items, "objects"),
        (("x",), strings, "texts"),
    ],
)
def test_a_getter_returns_the_value_at_its_path(expected: Any, getter: Getter, key: str) -> None:
    """A value of the right type is returned unchanged."""
    assert expected == getter(MANIFEST, "a", key)


@pytest.mark.parametrize(("expected", "getter"), [("", text), (0, number), ({}, mapping), ((), items), ((), strings)])
@pytest.mark.parametrize("path", [("a", "null"), ("a", "none"), ("b",), ("b", "c", "d"), ("a", "null", "below")])
def test_an_absent_or_null_field_is_empty(expected: Any, getter: Getter, path: tuple[str, ...]) -> None:
    """An absent field, a null and a path through either give the empty value."""
    assert expected == getter(MANIFEST, *path)


@pytest.mark.parametrize(
    ("getter", "key", "message"),
    [
        (text, "number", "a.number: not a string"),
        (text, "object", "a.object: not a string"),
        (number, "text", "a.text: not a whole number"),
        (mapping, "objects", "a.objects: not an object"),
        (items, "object", "a.object: not a list of objects"),
        (items, "texts", "a.texts: not a list of objects"),
        (items, "number", "a.number: not a list of objects"),
        (strings, "number", "a.number: not a list of strings"),
        (strings, "text", "a.text: not a list of strings"),
        (strings, "objects", "a.objects: not a list of strings"),
    ],
)
def test_a_wrong_type_is_named_with_its_path(getter: Getter, key: str, message: str) -> None:
    """The message starts with the path, so that its reader finds the field."""
    with pytest.raises(InvalidManifest) as error:
        getter(MANIFEST, "a", key)
    assert message == str(error.value)


@pytest.mark.parametrize(("path", "value"), [(("a", "text", "below"), "a.text"), (("a", "texts", "0"), "a.texts")])
def test_a_path_through_a_leaf_names_the_leaf(path: tuple[str, ...], value: str) -> None:
    """If a field before the end of the path is no object, the error names that field."""
    with pytest.raises(InvalidManifest, match=f"^{value}: not an object$"):
        text(MANIFEST, *path)


@pytest.mark.parametrize("value", [True, 1.0, "1"])
def test_only_whole_numbers_are_numbers(value: object) -> None:
    """Booleans are whole numbers in Python, not in Kubernetes."""
    with pytest.raises(InvalidManifest):
        number({"n": value}, "n")


@given(json_values(), st.sampled_from([text, number, mapping, items, strings]))
def test_no_json_makes_a_getter_raise_anything_else(value: object, getter: Getter) -> None:
    """A getter returns any JSON value, or raises `InvalidManifest` with its path."""
    for manifest in ({"a": value}, {"a": {"b": value}}):
        try:
            getter(manifest, "a", "b")
        except InvalidManifest as error:
            message = str(error)
        else:
            message = "a"
        assert message.startswith("a")


def test_metadata_has_getters_of_its_own() -> None:
    """Name, uid and annotations are read through `metadata`."""
    manifest = {"metadata": {"name": "web", "uid": "u-1", "annotations": {"k/x": "v"}}}
    assert ("web", "u-1", "v", "") == (
        name_of(manifest),
        uid_of(manifest),
        annotation(manifest, "k/x"),
        annotation({}, "k"),
    )


_BOTH = [
    pytest.param(True, "a", id="one-character"),
    pytest.param(True, "0-web-9", id="digits-and-dashes"),
    pytest.param(True, "a" * 63, id="63"),
    pytest.param(False, "", id="empty"),
    pytest.param(False, "-a", id="dash-first"),
    pytest.param(False, "a-", id="dash-last"),
    pytest.param(False, "Web", id="upper-case"),
    pytest.param(False, "a_b", id="underscore"),
    pytest.param(False, "a/b", id="slash"),
    pytest.param(False, "..", id="dots"),
    pytest.param(False, "a%2fb", id="escaped"),
    pytest.param(False, "a?b=c", id="query"),
    pytest.param(False, "a\n", id="newline"),
    pytest.param(False, "ä", id="no-ascii"),
    pytest.param(False, "\u0660", id="a-digit-elsewhere"),
]


@pytest.mark.parametrize(
    ("expected", "name"), [*_BOTH, pytest.param(False, "a" * 64, id="64"), pytest.param(False, "a.b", id="dot")]
)
def test_a_label_is_a_namespace_s_name(expected: bool, name: str) -> None:  # noqa: FBT001 - the row's expectation
    """RFC 1123 labels, as Kubernetes checks them."""
    assert expected is is_label(name)


@pytest.mark.parametrize(
    ("expected", "name"),
    [
        *_BOTH,
        pytest.param(True, "web-0.17f3a0c1d2e3f401", id="an-event"),
        pytest.param(True, "a" * 253, id="253"),
        pytest.param(False, "a" * 254, id="254"),
        pytest.param(False, "a..b", id="empty-label"),
        pytest.param(False, "a.", id="dot-last"),
        pytest.param(False, "a.-b", id="dash-after-dot"),
    ],
)
def test_a_subdomain_is_an_object_s_name(expected: bool, name: str) -> None:  # noqa: FBT001 - the row's expectation
    """RFC 1123 subdomains, as Kubernetes checks them."""
    assert expected is is_subdomain(name)


@pytest.mark.parametrize("written", ["2026-11-23T02:00:00Z", "2026-11-23T03:00:00+01:00"])
def test_a_time_is_read_in_utc(written: str) -> None:
    """Kubernetes writes UTC; another writer may not."""
    assert datetime(2026, 11, 23, 2, 0, tzinfo=UTC) == moment(written)


@pytest.mark.parametrize("written", ["", "yesterday", "0001-01-01T00:00:00+23:59"])
def test_a_text_that_is_no_time_has_no_moment(written: str) -> None:
    """Another writer may have left anything."""
    assert moment(written) is None


def test_managed_fields_are_left_out() -> None:
    """The copy has all other fields, and the object itself is unchanged."""
    manifest = {"kind": "Pod", "metadata": {"name": "web", "managedFields": [{}]}}
    assert {"kind": "Pod", "metadata": {"name": "web"}} == pruned(manifest)
    assert "managedFields" in manifest["metadata"]
