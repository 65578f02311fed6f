"""
Reads Kubernetes manifests, which are untyped JSON from somewhere else.

A manifest stays a plain `dict`: nothing is converted, and no unknown field is lost. Every other module reads fields by
the getters below. Each takes the path of a field. If the field is absent, it returns an empty value; if the field has
the wrong type, it raises `InvalidManifest` with the path.
"""

import re
from collections.abc import Mapping
from typing import Any

Manifest = Mapping[str, Any]
# RFC 1123 as Kubernetes applies it (apimachinery, util/validation): names that may be put into a URL.
_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_MAX_SUBDOMAIN = 253
# JSON decoders return a `dict`, and `isinstance` recognises one in a tenth of the time of a `Mapping`.
_OBJECT = (dict, Mapping)


class InvalidManifest(ValueError):
    """A field has another type than Kubernetes gives it; the message starts with its path."""


def text(manifest: Manifest, *path: str) -> str:
    """Return the string at `path`; `""` if it is absent or null."""
    value = _at(manifest, path)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidManifest(f"{'.'.join(path)}: not a string")
    return value


def mapping(manifest: Manifest, *path: str) -> Manifest:
    """Return the object at `path`; `{}` if it is absent or null."""
    value = _at(manifest, path)
    if value is None:
        return {}
    if not isinstance(value, _OBJECT):
        raise InvalidManifest(f"{'.'.join(path)}: not an object")
    return value


def items(manifest: Manifest, *path: str) -> tuple[Manifest, ...]:
    """Return the objects of the list at `path`; `()` if it is absent or null."""
    value = _at(manifest, path)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, _OBJECT) for item in value):
        raise InvalidManifest(f"{'.'.join(path)}: not a list of objects")
    return tuple(value)


def strings(manifest: Manifest, *path: str) -> tuple[str, ...]:
    """Return the strings of the list at `path`; `()` if it is absent or null."""
    value = _at(manifest, path)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidManifest(f"{'.'.join(path)}: not a list of strings")
    return tuple(value)


def number(manifest: Manifest, *path: str) -> int:
    """Return the whole number at `path`; 0 if it is absent or null."""
    value = _at(manifest, path)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidManifest(f"{'.'.join(path)}: not a whole number")
    return value


def annotation(manifest: Manifest, key: str) -> str:
    """Return the annotation `key` of the object; `""` if it has none."""
    return text(mapping(manifest, "metadata", "annotations"), key)


def name_of(manifest: Manifest) -> str:
    """Return `metadata.name`."""
    return text(manifest, "metadata", "name")


def uid_of(manifest: Manifest) -> str:
    """Return `metadata.uid`."""
    return text(manifest, "metadata", "uid")


def is_label(name: str) -> bool:
    """
    Tell whether `name` is an RFC 1123 label, as a namespace's name must be.

    >>> is_label("kube-system"), is_label("../secrets")
    (True, False)
    """
    return _LABEL.fullmatch(name) is not None


def is_subdomain(name: str) -> bool:
    """
    Tell whether `name` is an RFC 1123 subdomain, as the names of pods and events must be.

    >>> is_subdomain("web-0.17f3a0c1d2e3f401"), is_subdomain("web/status")
    (True, False)
    """
    return len(name) <= _MAX_SUBDOMAIN and _SUBDOMAIN.fullmatch(name) is not None


def pruned(manifest: Manifest) -> dict[str, Any]:
    """Return the object without `metadata.managedFields`, which are often half of its bytes."""
    metadata = {key: value for key, value in mapping(manifest, "metadata").items() if key != "managedFields"}
    return {**manifest, "metadata": metadata}


def _at(manifest: Manifest, path: tuple[str, ...]) -> Any:
    """Return the value at `path`; `None` if a field on the way is absent or null."""
    value: Any = manifest
    for depth, key in enumerate(path):
        if value is None:
            return None
        if not isinstance(value, _OBJECT):
            raise InvalidManifest(f"{'.'.join(path[:depth])}: not an object")
        value = value.get(key)
    return value
