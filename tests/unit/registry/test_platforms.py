"""Choosing the manifest for a node by the rules of containerd."""

import pytest

from saffire.registry.platforms import Platform, match_platform


def platform(text: str) -> Platform:
    """Return the platform of `os/architecture[/variant]`."""
    return Platform.of(*text.split("/"))


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("Linux/AMD64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/x86-64/v2", "linux/amd64/v2"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/i386/v1", "linux/386"),
        ("linux/386", "linux/386"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/arm/v5", "linux/arm/v5"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/s390x", "linux/s390x"),
    ],
)
def test_a_platform_is_normalised(text: str, normalised: str) -> None:
    """Indexes and nodes may spell it differently."""
    assert normalised == str(platform(text))


@pytest.mark.parametrize(
    ("node_platform", "offered", "expected"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["linux/386", "linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["linux/arm64", "linux/386"], "linux/386"),
        ("linux/amd64", ["linux/amd64/v2"], None),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], "linux/amd64/v2"),
        ("linux/amd64/v3", ["linux/amd64"], "linux/amd64"),
        ("linux/386", ["linux/amd64"], None),
        ("linux/arm64", ["linux/arm64/v8"], "linux/arm64"),
        ("linux/arm64", ["linux/arm/v7", "linux/arm/v6"], "linux/arm/v7"),
        ("linux/arm64", ["linux/arm64/v9"], None),
        ("linux/arm64/v8.2", ["linux/arm64", "linux/arm64/v8.1", "linux/arm64/v8.3"], "linux/arm64/v8.1"),
        ("linux/arm64/v9", ["linux/arm64/v8.5", "linux/arm64"], "linux/arm64/v8.5"),
        ("linux/arm64/v9.1", ["linux/arm64/v8.6", "linux/arm64/v9"], "linux/arm64/v9"),
        ("linux/arm64/v9", ["linux/arm64/v8.6"], None),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], "linux/arm/v6"),
        ("linux/arm/v6", ["linux/arm/v7"], None),
        ("linux/arm/v5", ["linux/arm/v5"], "linux/arm/v5"),
        ("linux/riscv64", ["linux/amd64"], None),
        ("windows/amd64", ["linux/amd64", "windows/amd64"], "windows/amd64"),
        ("linux/amd64", ["unknown/unknown"], None),
        ("linux/amd64", [], None),
        ("linux/amd64/²", ["linux/amd64"], None),
    ],
)
def test_a_node_pulls_the_best_platform_that_runs_on_it(
    node_platform: str, offered: list[str], expected: str | None
) -> None:
    """Its own platform comes first, then the others that its processor runs, whatever their order in the index."""
    platforms = [platform(text) for text in offered]
    position = match_platform(platforms, platform(node_platform))
    assert expected == (None if position is None else str(platforms[position]))


def test_a_node_has_its_platform_in_its_status() -> None:
    """Its kubelet writes it there; until then the node has none."""
    info = {"operatingSystem": "linux", "architecture": "arm64"}
    assert platform("linux/arm64") == Platform.of_node({"status": {"nodeInfo": info}})
    assert Platform.of_node({"status": {}}) is None
