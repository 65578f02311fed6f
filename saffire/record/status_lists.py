"""
The lists in the status of a source: how their entries are read, and which entry a full list loses.

The number of entries is limited, since a status has to stay small. All namespaces of a cluster-wide source share its
lists. So if a list is full, the namespace with the most entries loses its oldest. A namespace that has fewer loses
none, whatever happens in others.

Saffire is not the only writer of a status: the Go project of this name, or a user, may have written entries of any
shape.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from saffire.kube.manifest import InvalidManifest, Manifest, name_of, text, uid_of

T = TypeVar("T")
_TYPE = ("group", "version", "kind")
_PATHS = (("target", "namespace"), ("target", "name"), *(("target", "type", key) for key in _TYPE))
_OF_CONTAINER = ("container", "newImage", "oldImage", "to", "from", "image")
_KEYS = (*_OF_CONTAINER, "since", "time", "note", "reason", "message", "pod", "by")

# Reading

ContainerKey = tuple[str, str, str]
"""
The namespace and the uid of a workload, and the name of one of its containers.

If an entry has no uid, the workload's kind, namespace and name stand in for the uid, joined by `/`. The uid alone is
not enough: it may come from the annotation of a pod, which users of another namespace write.
"""


def container_key(entry: Manifest) -> ContainerKey:
    """Return the container that an entry of a list is about; another writer may have written no uid."""
    names = (("target", "type", "kind"), ("target", "namespace"), ("target", "name"))
    uid = text(entry, "target", "uid") or "/".join(text(entry, *path) for path in names)
    return namespace_of(entry), uid, text(entry, "target", "container") or text(entry, "container")


def target_of(workload: Manifest, container: str) -> dict[str, Any]:
    """Return the `target` of an entry, in the shape of the Go project's schema."""
    group, _, version = text(workload, "apiVersion").rpartition("/")
    return {
        "name": name_of(workload),
        "namespace": text(workload, "metadata", "namespace"),
        "type": {"group": group, "version": version, "kind": text(workload, "kind")},
        "container": container,
        "uid": uid_of(workload),
    }


def namespace_of(entry: Manifest) -> str:
    """Return the namespace of the workload that an entry is about; the Go project of this name wrote none."""
    return text(entry, "target", "namespace")


def status_of(source: Manifest) -> Manifest:
    """Return the status of a source; `{}` if the source has none, or if another writer left one that is no mapping."""
    status = source.get("status")
    return status if isinstance(status, Mapping) else {}


def readable_entries(status: Manifest, field: str) -> list[Manifest]:
    """Return those entries of a list of the status that Saffire can read; another writer may have left any shape."""
    return [entry for entry in list_entries(status, field) if _is_readable(entry)]


def _is_readable(entry: Manifest) -> bool:
    try:
        container_key(entry)
        for path in (*_PATHS, *((key,) for key in _KEYS)):
            text(entry, *path)  # for its error
    except InvalidManifest:
        return False
    return True


def list_entries(status: Manifest, field: str) -> list[Manifest]:
    """
    Return the mappings in a list of the status, whatever they contain; `[]` if `field` is no list.

    An older schema may have let other values pass.
    """
    entries = status.get(field)
    return [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []


# Shares of namespaces


def index_to_lose(namespaces: Iterable[str], counts: Counter[str]) -> int:
    """
    Return the index of the entry that a list loses: the oldest of the namespace with the most entries.

    If several namespaces have the most, it is the oldest entry of all of these. `namespaces` are those of the entries,
    oldest first, and `counts` says how many entries each namespace has.
    """
    most = max(counts.values())
    return next(index for index, namespace in enumerate(namespaces) if counts[namespace] == most)


def bounded(entries: Iterable[T], size: int, namespace: Callable[[T], str]) -> list[T]:
    """Return the entries, oldest first, without those that a list of `size` entries loses."""
    kept = list(entries)
    counts = Counter(map(namespace, kept))
    while len(kept) > size:
        lost = kept.pop(index_to_lose(map(namespace, kept), counts))
        counts[namespace(lost)] -= 1
    return kept


def rival(entries: Sequence[Manifest], size: int, namespace: str) -> Manifest | None:
    """
    Return the entry with which one more entry of a namespace would compete for a place; `None` if there is a place.

    There is a place if the list has fewer than `size` entries, or if another namespace would have more even then.
    Otherwise the list loses the older of the two. `entries` are in the order of their times.
    """
    if len(entries) < size:
        return None
    namespaces = [namespace_of(entry) for entry in entries]
    counts = Counter([*namespaces, namespace])
    older = index_to_lose(namespaces, counts)
    return entries[older] if counts[namespaces[older]] == counts[namespace] else None
