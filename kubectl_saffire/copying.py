"""
Copying: which images have to be copied into which alternatives, and the commands of other programs that do so.

Saffire copies nothing. A *copy* is an image and its equivalent in another repository. A reference with a digest is
copied by its digest alone, from and to: a container runtime pulls it so, and no tag at the target is moved.

The references come from pods and sources, so any user of the cluster may have written them. Only what Saffire's parser
accepts as a reference gets here, and each is quoted for the shell all the same.
"""

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

import yaml

from saffire.policy.readiness import ImagePair, ReadinessState
from saffire.registry.reference import Reference

TO_COPY = frozenset({ReadinessState.ABSENT, ReadinessState.PLATFORM, ReadinessState.INCOMPLETE, ReadinessState.DENIED})
"""
The states of a pair whose equivalent the registry does not show.

Most registries deny a repository that does not exist, so that nobody learns which private repositories do.
"""
OPEN = {
    ReadinessState.DIFFERENT: "it holds another image under this tag; see which of the two is right",
    ReadinessState.WITHHELD: "the registry gives it to nobody",
    ReadinessState.THROTTLED: "the registry asks to be asked later",
    ReadinessState.UNREACHABLE: "its registry gives no usable answer",
    ReadinessState.UNASKED: "the registry was not asked",
}
"""What is told about a pair that is not to be copied, and whose equivalent is not known to be right either."""


@dataclass(frozen=True, order=True, slots=True)
class Copy:
    """A copy to make: both texts are references with a tag or with a digest."""

    source: str
    target: str

    @classmethod
    def of(cls, image: Reference, equivalent: Reference) -> Self:
        """Return the copy of an image to its equivalent."""
        return cls(_pinned(image), _pinned(equivalent))


def states_of_copies(answered: Iterable[tuple[ImagePair, ReadinessState]]) -> dict[Copy, ReadinessState]:
    """
    Return the copies that pairs mean, with the states of the pairs.

    If several pods ask for the same copy, the most telling state counts: the nodes of one pod may have a platform that
    is missing; and if one pod may read the image, it is there, although the registry denies it to others.
    """
    states: dict[Copy, ReadinessState] = {}
    for pair, state in answered:
        copy = Copy.of(Reference.parse(pair.use.image), pair.candidate.reference)
        states[copy] = min(state, states.get(copy, state), key=_rank)
    return states


def _rank(state: ReadinessState) -> int:
    """Return how little a state tells."""
    if state in TO_COPY:
        return 2 if state is ReadinessState.DENIED else 0
    return 3 if state in OPEN else 1


def _pinned(reference: Reference) -> str:
    """Return a reference with its digest alone, or else with its tag; runtimes and copiers mean `latest` by neither."""
    return str(replace(reference, tag="" if reference.digest else reference.tag or "latest"))


def as_skopeo(copies: Iterable[Copy]) -> str:
    """
    Return a line of shell for each copy: `skopeo copy --all`, for all platforms of an index.

    Without `--preserve-digests`, skopeo converts a manifest that the target does not accept, and its digest changes.
    """
    command = ("skopeo", "copy", "--all", "--preserve-digests")
    return _lines((*command, f"docker://{copy.source}", f"docker://{copy.target}") for copy in copies)


def as_crane(copies: Iterable[Copy]) -> str:
    """Return a line of shell for each copy: `crane copy`, which copies all platforms of an index."""
    return _lines(("crane", "copy", copy.source, copy.target) for copy in copies)


def as_regsync(copies: Iterable[Copy]) -> str:
    """Return a configuration of regsync, version 1, in YAML: one step of the type `image` for each copy."""
    steps = [{"source": copy.source, "target": copy.target, "type": "image"} for copy in copies]
    return yaml.safe_dump({"version": 1, "sync": steps}, sort_keys=False, width=1000)


FORMATS: Mapping[str, Callable[[Iterable[Copy]], str]] = {
    "regsync": as_regsync,
    "skopeo": as_skopeo,
    "crane": as_crane,
}
"""What writes a plan, by the name of the program that carries it out."""


def _lines(commands: Iterable[tuple[str, ...]]) -> str:
    return "".join(f"{shlex.join(command)}\n" for command in commands)
