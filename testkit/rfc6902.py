"""
JSON Patch as the API server applies it, for the operations that Saffire sends: `test`, `replace` and `add`.

In one point this module is like github.com/evanphx/json-patch, which the API server uses, and not like RFC 6902: a
`test` for null also succeeds if the value is missing.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any


class PatchFailed(Exception):
    """A `test` failed, or a path does not exist. The document is unchanged."""


def patched(document: Any, operations: Iterable[Mapping[str, Any]]) -> Any:
    """Return a copy of `document` with all operations applied; raise `PatchFailed` if one of them fails."""
    root = {"": deepcopy(document)}
    for operation in operations:
        parent, key = _find(root, operation["path"])
        match operation["op"]:
            case "test":
                if _get(parent, key, default=None) != operation["value"]:
                    raise PatchFailed(operation)
            case "replace":
                _get(parent, key)
                parent[key] = deepcopy(operation["value"])
            case "add" if isinstance(parent, list):
                if key > len(parent):
                    raise PatchFailed(operation)
                parent.insert(key, deepcopy(operation["value"]))
            case "add":
                parent[key] = deepcopy(operation["value"])
            case unknown:
                raise ValueError(unknown)
    return root[""]


def _find(root: Any, pointer: str) -> tuple[Any, Any]:
    """Return the object or list that has the value at `pointer` (RFC 6901), and the value's key or index in it."""
    *way, last = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")]
    parent = root
    for step in way:
        parent = _get(parent, _key(parent, step))
    return parent, _key(parent, last)


def _key(parent: Any, step: str) -> Any:
    """Return a step of a pointer as a key of the object `parent`, or as an index of the list `parent`."""
    if isinstance(parent, list):
        return len(parent) if step == "-" else int(step)
    if isinstance(parent, dict):
        return step
    raise PatchFailed(step)


def _get(parent: Any, key: Any, **default: Any) -> Any:
    """
    Return the value at `key` of an object or list.

    If there is no such value, return `default`; without a `default`, raise `PatchFailed`.
    """
    try:
        return parent[key]
    except (KeyError, IndexError):
        if default:
            return default["default"]
        raise PatchFailed(key) from None
