"""Which image a node takes, as containerd decides."""

import pytest

from saffire.registry.platforms import Platform, match_platform


def platform(written: str) -> Platform:
    """Return the platform of `os/architecture[/variant]`."""
    return Platform.of(*written.split("/"))


@pytest.mark.parametrize(
    ("written", "normalised"),
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
def test_a_platform_has_one_spelling(written: str, normalised: str) -> None:
    """However an index or a node writes it."""
    assert normalised == str(platform(written))


@pytest.mark.parametrize(
    ("wanted", "offered", "taken"),
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
def test_a_node_takes_the_best_that_runs_on_it(wanted: str, offered: list[str], taken: str | None) -> None:
    """Its own platform first, then what its processor runs besides; the order of the index counts for nothing."""
    platforms = [platform(each) for each in offered]
    chosen = match_platform(platforms, platform(wanted))
    assert taken == (None if chosen is None else str(platforms[chosen]))


def test_a_node_tells_its_platform() -> None:
    """Its kubelet writes it into the status; until then it has none."""
    info = {"operatingSystem": "linux", "architecture": "arm64"}
    assert platform("linux/arm64") == Platform.of_node({"status": {"nodeInfo": info}})
    assert Platform.of_node({"status": {}}) is None
