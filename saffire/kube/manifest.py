"""
Reading Kubernetes manifests, which are untyped JSON from somewhere else.

A manifest stays a plain `dict`; nothing is converted and nothing unknown is lost. These getters are the only way in:
each takes the path of a field, tolerates that it is absent, and says where it stands when its type is wrong.
"""

import re
from collections.abc import Mapping
from typing import Any

Manifest = Mapping[str, Any]
# RFC 1123 as Kubernetes applies it (apimachinery, util/validation): what may stand in a URL as a name.
_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_MAX_SUBDOMAIN = 253
# The first of both is what JSON becomes, and takes a tenth of the time to recognise.
_OBJECT = (dict, Mapping)


class InvalidManifest(ValueError):
    """A field has another type than Kubernetes gives it; the message starts with its path."""


def text(manifest: Manifest, *path: str) -> str:
    """Return the string at `path`; `""` where it is absent or null."""
    value = _at(manifest, path)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidManifest(f"{'.'.join(path)}: not a string")
    return value


def mapping(manifest: Manifest, *path: str) -> Manifest:
    """Return the object at `path`; `{}` where it is absent or null."""
    value = _at(manifest, path)
    if value is None:
        return {}
    if not isinstance(value, _OBJECT):
        raise InvalidManifest(f"{'.'.join(path)}: not an object")
    return value


def items(manifest: Manifest, *path: str) -> tuple[Manifest, ...]:
    """Return the objects of the list at `path`; `()` where it is absent or null."""
    value = _at(manifest, path)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, _OBJECT) for item in value):
        raise InvalidManifest(f"{'.'.join(path)}: not a list of objects")
    return tuple(value)


def strings(manifest: Manifest, *path: str) -> tuple[str, ...]:
    """Return the strings of the list at `path`; `()` where it is absent or null."""
    value = _at(manifest, path)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidManifest(f"{'.'.join(path)}: not a list of strings")
    return tuple(value)


def number(manifest: Manifest, *path: str) -> int:
    """Return the whole number at `path`; 0 where it is absent or null."""
    value = _at(manifest, path)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidManifest(f"{'.'.join(path)}: not a whole number")
    return value


def annotation(manifest: Manifest, key: str) -> str:
    """Return the annotation `key` of the object; `""` where it has none."""
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


def _at(manifest: Manifest, path: tuple[str, ...]) -> Any:
    """Walk down `path`; `None` where a step is absent or null."""
    value: Any = manifest
    for depth, key in enumerate(path):
        if value is None:
            return None
        if not isinstance(value, _OBJECT):
            raise InvalidManifest(f"{'.'.join(path[:depth])}: not an object")
        value = value.get(key)
    return value


def pruned(manifest: Manifest) -> dict[str, Any]:
    """Return the object without `metadata.managedFields`, which is often half of it."""
    metadata = {key: value for key, value in mapping(manifest, "metadata").items() if key != "managedFields"}
    return {**manifest, "metadata": metadata}
