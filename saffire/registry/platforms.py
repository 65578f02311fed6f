"""
Platforms: which image of an index a node takes.

A *platform* is operating system, architecture and variant, as the OCI image specification has them. Which one suits a
node is the runtime's matter; this is how containerd decides (containerd/platforms, `Normalize` and `Only`): its own
platform first, then what its processor runs besides, as arm/v7 runs arm/v6, arm64 runs arm and amd64 runs 386.
The version of Windows is not looked at.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from saffire.kube.manifest import Manifest, text

_ARCHITECTURES = {
    "i386": "386",
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm",
    "armel": "arm",
}
_ARM_VARIANTS = {"armhf": "v7", "armel": "v6"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Platform:
    """What an image is built for, normalised; `variant` is `""` where there is none, or only the usual one."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @classmethod
    def of(cls, os: str, architecture: str, variant: str = "") -> Self:
        """
        Return the platform of any spelling of it.

        >>> str(Platform.of("Linux", "aarch64", "v8")), str(Platform.of("linux", "arm"))
        ('linux/arm64', 'linux/arm/v7')
        """
        given, variant = architecture.lower(), variant.lower()
        known = _ARCHITECTURES.get(given, given)
        match known:
            case "386" if given == "i386":
                variant = ""
            case "amd64":
                variant = "" if variant == "v1" else variant
            case "arm64":
                variant = "" if variant in {"8", "v8"} else variant
            case "arm":
                variant = _ARM_VARIANTS.get(given) or variant or "v7"
                variant = f"v{variant}" if variant in {"5", "6", "7", "8"} else variant
        return cls(os=os.lower(), architecture=known, variant=variant)

    @classmethod
    def of_node(cls, node: Manifest) -> Self | None:
        """Return the platform of a Node (`status.nodeInfo`); `None` where its kubelet has not told it yet."""
        os, architecture = (text(node, "status", "nodeInfo", field) for field in ("operatingSystem", "architecture"))
        return cls.of(os, architecture) if os and architecture else None

    def runs(self) -> Iterator["Platform"]:
        """
        Yield the platforms whose images run here, the best first.

        >>> [str(platform) for platform in Platform.of("linux", "arm", "v6").runs()]
        ['linux/arm/v6', 'linux/arm/v5']
        """
        yield self
        match self.architecture:
            case "amd64":
                for level in range(_number(self.variant) - 1, 0, -1):
                    yield Platform.of(self.os, "amd64", f"v{level}")
                yield Platform.of(self.os, "386")
            case "arm":
                for level in range(_number(self.variant) - 1, 4, -1):
                    yield Platform.of(self.os, "arm", f"v{level}")
            case "arm64":
                for variant in _arm64_variants(self.variant):
                    yield Platform.of(self.os, "arm64", variant)
                yield from Platform.of(self.os, "arm", "v8").runs()


def match_platform(offered: Sequence[Platform], wanted: Platform) -> int | None:
    """
    Return which of the platforms `offered` a node of the platform `wanted` takes; `None` where none runs on it.

    >>> match_platform([Platform.of("linux", "386"), Platform.of("linux", "amd64")], Platform.of("linux", "amd64"))
    1
    """
    return next((offered.index(platform) for platform in wanted.runs() if platform in offered), None)


def _arm64_variants(variant: str) -> Iterator[str]:
    """Yield what a later arm64 runs besides, the best first: v9.x runs v8.(x+5)."""
    major, _, minor = variant.removeprefix("v").partition(".")
    level = _number(minor)
    if major == "9":
        yield from ("v9" if not each else f"v9.{each}" for each in range(level - 1, -1, -1))
        level += 6
    yield from ("v8" if not each else f"v8.{each}" for each in range(level - 1, -1, -1))


def _number(variant: str) -> int:
    """Return the number of a variant, as of `v3`; 0 where it has none, or none that exists."""
    digits = variant.removeprefix("v")
    return int(digits) if len(digits) == 1 and digits in "123456789" else 0
