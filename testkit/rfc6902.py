"""
JSON Patch as the API server applies it: the operations that Saffire sends, applied to plain manifests.

In one point this is github.com/evanphx/json-patch and not RFC 6902: a `test` for null also holds for a missing value.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any


class PatchFailed(Exception):
    """A `test` did not hold, or a path does not exist. Nothing was changed."""


def patched(document: Any, operations: Iterable[Mapping[str, Any]]) -> Any:
    """Return `document` with all operations applied; raise `PatchFailed` if one of them fails."""
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
    """Return the container that `pointer` (RFC 6901) leads to, and the last key or index."""
    *way, last = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")]
    parent = root
    for step in way:
        parent = _get(parent, _key(parent, step))
    return parent, _key(parent, last)


def _key(parent: Any, step: str) -> Any:
    """Return the step as an index if its container is a list."""
    if isinstance(parent, list):
        return len(parent) if step == "-" else int(step)
    if isinstance(parent, dict):
        return step
    raise PatchFailed(step)


def _get(parent: Any, key: Any, **default: Any) -> Any:
    """Return the value at `key`, or the default if there is none."""
    try:
        return parent[key]
    except (KeyError, IndexError):
        if default:
            return default["default"]
        raise PatchFailed(key) from None
