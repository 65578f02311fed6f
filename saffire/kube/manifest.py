"""
Reads Kubernetes manifests, which are untyped JSON that users and the API server wrote.

A manifest stays a plain `dict`: nothing is converted, and no unknown field is lost. Every other module reads fields by
the getters below. Each getter takes the path of a field. If the field is absent, the getter returns an empty value. If
the field has the wrong type, the getter raises `InvalidManifest` with the path.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Manifest = Mapping[str, Any]
# RFC 1123 as Kubernetes applies it (apimachinery, util/validation). Such names may be put into a URL.
_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_MAX_SUBDOMAIN = 253
# JSON decoders return a `dict`, and `isinstance` recognises one in a tenth of the time of a `Mapping`.
_OBJECT = (dict, Mapping)
# Characters of a text that `printable` keeps.
_MAX_TEXT = 1024


class InvalidManifest(ValueError):
    """A field has another type than Kubernetes gives the field; the message starts with the path of the field."""


def text(manifest: Manifest, *path: str) -> str:
    """Return the string at `path`; `""` if the field is absent or null."""
    value = _at(manifest, path)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidManifest(f"{'.'.join(path)}: not a string")
    return value


def mapping(manifest: Manifest, *path: str) -> Manifest:
    """Return the object at `path`; `{}` if the field is absent or null."""
    value = _at(manifest, path)
    if value is None:
        return {}
    if not isinstance(value, _OBJECT):
        raise InvalidManifest(f"{'.'.join(path)}: not an object")
    return value


def items(manifest: Manifest, *path: str) -> tuple[Manifest, ...]:
    """Return the objects of the list at `path`; `()` if the field is absent or null."""
    value = _at(manifest, path)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, _OBJECT) for item in value):
        raise InvalidManifest(f"{'.'.join(path)}: not a list of objects")
    return tuple(value)


def strings(manifest: Manifest, *path: str) -> tuple[str, ...]:
    """Return the strings of the list at `path`; `()` if the field is absent or null."""
    value = _at(manifest, path)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidManifest(f"{'.'.join(path)}: not a list of strings")
    return tuple(value)


def number(manifest: Manifest, *path: str) -> int:
    """Return the whole number at `path`; 0 if the field is absent or null."""
    value = _at(manifest, path)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidManifest(f"{'.'.join(path)}: not a whole number")
    return value


def annotation(manifest: Manifest, key: str) -> str:
    """Return the value of the object's annotation `key`; `""` if the object has no such annotation."""
    return text(mapping(manifest, "metadata", "annotations"), key)


def name_of(manifest: Manifest) -> str:
    """Return `metadata.name` of an object; `""` if it is absent."""
    return text(manifest, "metadata", "name")


def uid_of(manifest: Manifest) -> str:
    """Return `metadata.uid` of an object; `""` if it is absent."""
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
    Tell whether `name` is an RFC 1123 subdomain, as the names of pods and Events must be.

    >>> is_subdomain("web-0.17f3a0c1d2e3f401"), is_subdomain("web/status")
    (True, False)
    """
    return len(name) <= _MAX_SUBDOMAIN and _SUBDOMAIN.fullmatch(name) is not None


def pruned(manifest: Manifest) -> dict[str, Any]:
    """Return the object without `metadata.managedFields`, which are often half of the object's bytes."""
    metadata = {key: value for key, value in mapping(manifest, "metadata").items() if key != "managedFields"}
    return {**manifest, "metadata": metadata}


def _at(manifest: Manifest, path: tuple[str, ...]) -> Any:
    """Return the value at `path`; `None` if this field or a field on the way to it is absent or null."""
    value: Any = manifest
    for depth, key in enumerate(path):
        if value is None:
            return None
        if not isinstance(value, _OBJECT):
            raise InvalidManifest(f"{'.'.join(path[:depth])}: not an object")
        value = value.get(key)
    return value


def moment(timestamp: str) -> datetime | None:
    """Return a time (`metav1.Time`, RFC 3339) in UTC; `None` if the text is none."""
    try:
        return datetime.fromisoformat(timestamp).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def printable(text: str) -> str:
    """
    Return at most 1024 characters of a text. Characters other than printable ASCII become Python escapes.

    The text may quote what users of the cluster wrote, so it may contain anything.
    """
    if text.isascii() and text.isprintable():
        return text[:_MAX_TEXT]
    characters = (
        character if character.isprintable() and character.isascii() else ascii(character)[1:-1]
        for character in text[:_MAX_TEXT]
    )
    return "".join(characters)[:_MAX_TEXT]
