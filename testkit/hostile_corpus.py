"""
The most work that users can give Saffire who may only create sources and pods: as much as the API server accepts.

A namespace has 32 sources of 64 sets of 32 entries, and a pod of 300 containers whose images these sources list.
"""

from collections.abc import Callable

from testkit.builders import Object, pod, source_manifest, waiting

SOURCES, SETS, ENTRIES, CONTAINERS = 32, 64, 32, 300
Shape = Callable[[int, int, int], str]
"""Returns an entry, by the number of its source, the number of its set there, and its own number in the set."""


def _wide(source: int, position: int, entry: int) -> str:
    return f"r{entry}.example.com/of-{source}/app-{position}"


def _crowded(source: int, position: int, entry: int) -> str:
    return f"r{entry}.example.com/of-{source}/in-{position}/*" if entry else "quay.io/acme/*"


def _alike(_: int, __: int, entry: int) -> str:
    return f"R{entry}.Example.com:443/mirror/*" if entry else "Quay.io:443/acme/*"


def _long(source: int, position: int, entry: int) -> str:
    return f"r{entry}.example.com/{'p' * 200}/of-{source}/in-{position}/*" if entry else "quay.io/acme/*"


SHAPES: dict[str, Shape] = {
    "65536 repositories": _wide,
    "63488 equivalents of each image": _crowded,
    "2048 times the same set, in another spelling": _alike,
    "equivalents that are too long": _long,
}


def sources(shape: Shape, **spec: str) -> list[Object]:
    """Return 32 sources of this shape, each with 2048 entries."""
    return [
        source_manifest(
            *[[shape(number, position, entry) for entry in range(ENTRIES)] for position in range(SETS)],
            name=f"shop-{number:02}",
            **spec,
        )
        for number in range(SOURCES)
    ]


def images(shape: Shape) -> list[str]:
    """Return 300 images that sources of this shape list."""
    if shape is _wide:
        return [f"{shape(number % SOURCES, number % SETS, 0)}:v{number}" for number in range(CONTAINERS)]
    return [f"quay.io/acme/{'a' * 80}-{number}:v1" for number in range(CONTAINERS)]


def failing_pod(shape: Shape) -> Object:
    """Return a pod of 300 containers, each of which waits for another image that sources of this shape list."""
    by_name = {f"c{number}": image for number, image in enumerate(images(shape))}
    message = "dial tcp 10.0.0.1:443: connect: connection refused"
    return pod(*(waiting(name, image, message=message) for name, image in by_name.items()), **by_name)
