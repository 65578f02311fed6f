"""The tests' own JSON Patch, held to the examples of RFC 6902 (appendix A)."""

from typing import Any

import pytest

from testkit.rfc6902 import PatchFailed, patched


@pytest.mark.parametrize(
    ("expected", "document", "operation"),
    [
        pytest.param(
            {"foo": "bar", "baz": "qux"}, {"foo": "bar"}, {"op": "add", "path": "/baz", "value": "qux"}, id="A.1"
        ),
        pytest.param(
            {"foo": ["bar", "qux", "baz"]},
            {"foo": ["bar", "baz"]},
            {"op": "add", "path": "/foo/1", "value": "qux"},
            id="A.2",
        ),
        pytest.param(
            {"baz": "boo", "foo": "bar"},
            {"baz": "qux", "foo": "bar"},
            {"op": "replace", "path": "/baz", "value": "boo"},
            id="A.5",
        ),
        pytest.param(
            {"foo": ["a", 2], "baz": "qux"},
            {"foo": ["a", 2], "baz": "qux"},
            {"op": "test", "path": "/foo/1", "value": 2},
            id="A.8",
        ),
        pytest.param({"/": 9}, {"/": 9}, {"op": "test", "path": "/~1", "value": 9}, id="A.14"),
        pytest.param(
            {"foo": ["bar", ["abc"]]}, {"foo": ["bar"]}, {"op": "add", "path": "/foo/-", "value": ["abc"]}, id="A.16"
        ),
        pytest.param({"a": 1}, {"a": 1}, {"op": "test", "path": "/b", "value": None}, id="null-is-absent"),
    ],
)
def test_operations_do_what_the_rfc_shows(expected: Any, document: Any, operation: dict[str, Any]) -> None:
    """Each operation changes its place and nothing else."""
    assert expected == patched(document, [operation])


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param({"op": "test", "path": "/foo", "value": "qux"}, id="A.9-test"),
        pytest.param({"op": "add", "path": "/baz/bat", "value": 1}, id="A.12-no-parent"),
        pytest.param({"op": "add", "path": "/foo/bat", "value": 1}, id="parent-is-text"),
        pytest.param({"op": "add", "path": "/list/2", "value": 1}, id="beyond-the-end"),
        pytest.param({"op": "replace", "path": "/bar", "value": 1}, id="replace-nothing"),
        pytest.param({"op": "replace", "path": "/list/1", "value": 1}, id="replace-beyond-the-end"),
    ],
)
def test_a_patch_that_fails_changes_nothing(operation: dict[str, Any]) -> None:
    """One operation that fails undoes those before it."""
    document = {"foo": "bar", "list": [0]}
    with pytest.raises(PatchFailed):
        patched(document, [{"op": "replace", "path": "/foo", "value": "changed"}, operation])
    assert {"foo": "bar", "list": [0]} == document
