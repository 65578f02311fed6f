"""
JSON Patch as the API server applies it: the operations that Saffire sends, on plain manifests.

One thing is github.com/evanphx/json-patch and not RFC 6902: a `test` for null also holds where there is nothing.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any


class PatchFailed(Exception):
    """A `test` did not hold, or a path leads nowhere; nothing was changed."""


def patched(document: Any, operations: Iterable[Mapping[str, Any]]) -> Any:
    """Return `document` after all the operations; raise `PatchFailed` if one of them fails."""
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
    """Return the container that `pointer` (RFC 6901) leads into, and the key or index there."""
    *way, last = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")]
    parent = root
    for step in way:
        parent = _get(parent, _key(parent, step))
    return parent, _key(parent, last)


def _key(parent: Any, step: str) -> Any:
    """Return the step as an index where it leads into a list."""
    if isinstance(parent, list):
        return len(parent) if step == "-" else int(step)
    if isinstance(parent, dict):
        return step
    raise PatchFailed(step)


def _get(parent: Any, key: Any, **default: Any) -> Any:
    """Return what stands at `key`, or the default where nothing does."""
    try:
        return parent[key]
    except (KeyError, IndexError):
        if default:
            return default["default"]
        raise PatchFailed(key) from None
