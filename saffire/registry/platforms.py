"""
Platforms: which manifest of an index a node pulls.

A *platform* is an operating system, an architecture and a variant, as in the OCI image specification. The container
runtime of a node chooses the manifest. This module does as containerd does (containerd/platforms, `Normalize` and
`Only`): it prefers the node's own platform, then the other platforms that the node's processor runs. For example,
arm/v7 runs arm/v6, arm64 runs arm, and amd64 runs 386. The version of Windows is not compared.
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
    """
    The platform of an image or a node, with normalised names.

    `variant` is `""` if the architecture has no variant, or for the usual variant of amd64 (v1) and arm64 (v8).
    """

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @classmethod
    def of(cls, os: str, architecture: str, variant: str = "") -> Self:
        """
        Return the normalised platform with these names, which may be in any of their usual spellings.

        >>> str(Platform.of("Linux", "aarch64", "v8")), str(Platform.of("linux", "arm"))
        ('linux/arm64', 'linux/arm/v7')
        """
        spelling, variant = architecture.lower(), variant.lower()
        name = _ARCHITECTURES.get(spelling, spelling)
        match name:
            case "386" if spelling == "i386":
                variant = ""
            case "amd64":
                variant = "" if variant == "v1" else variant
            case "arm64":
                variant = "" if variant in {"8", "v8"} else variant
            case "arm":
                variant = _ARM_VARIANTS.get(spelling) or variant or "v7"
                variant = f"v{variant}" if variant in {"5", "6", "7", "8"} else variant
        return cls(os=os.lower(), architecture=name, variant=variant)

    @classmethod
    def of_node(cls, node: Manifest) -> Self | None:
        """
        Return the platform of a Node, by its `status.nodeInfo`.

        Return `None` if the Node's kubelet has not reported the platform yet.
        """
        os, architecture = (text(node, "status", "nodeInfo", field) for field in ("operatingSystem", "architecture"))
        return cls.of(os, architecture) if os and architecture else None

    def runs(self) -> Iterator["Platform"]:
        """
        Yield the platforms whose images run on this platform, the best first.

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


def match_platform(offered: Sequence[Platform], node_platform: Platform) -> int | None:
    """
    Return the index in `offered` of the platform that a node pulls; `None` if the node runs none of them.

    >>> match_platform([Platform.of("linux", "386"), Platform.of("linux", "amd64")], Platform.of("linux", "amd64"))
    1
    """
    return next((offered.index(platform) for platform in node_platform.runs() if platform in offered), None)


def _arm64_variants(variant: str) -> Iterator[str]:
    """
    Yield the earlier variants of arm64 whose images run on `variant`, the best first.

    A processor of variant v9.x also runs v8.(x+5) and earlier.
    """
    major, _, minor = variant.removeprefix("v").partition(".")
    level = _number(minor)
    if major == "9":
        yield from (f"v9.{lower}" if lower else "v9" for lower in range(level - 1, -1, -1))
        level += 6
    yield from (f"v8.{lower}" if lower else "v8" for lower in range(level - 1, -1, -1))


def _number(variant: str) -> int:
    """Return the number of a variant, such as 3 of `v3`; 0 if the number is not a digit from 1 to 9."""
    digits = variant.removeprefix("v")
    return int(digits) if len(digits) == 1 and digits in "123456789" else 0
