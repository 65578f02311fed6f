"""`report` on a screen: what has no proven equivalent, and how much of each registry is covered."""

import json
from pathlib import Path

from testkit.builders import Object, source_manifest
from testkit.listed_cluster import ListedCluster, deployed

OBJECTS = [source_manifest(), *deployed("web"), *deployed("db", "postgres:17"), *deployed("bad", "a b")]


async def typed(folder: Path, *arguments: str, objects: list[Object] | None = None) -> tuple[int, str, str]:
    """Type a command; return its exit status, and what it wrote to both outputs."""
    async with ListedCluster(OBJECTS if objects is None else objects).session(folder, "report", *arguments) as command:
        status = await command.run()
        return status, command.out, command.err


async def test_the_screen(tmp_path: Path) -> None:
    """The worst comes first, then each registry, then the sum and the next commands, in 80 columns."""
    status, out, _ = await typed(tmp_path)
    assert (1, """\
VERDICT        NAMESPACE  IMAGE
no equivalent  shop       a b
no equivalent  shop       postgres:17
unknown        shop       quay.io/acme/web:1.2
  ghcr.io/acme/web:1.2: not asked yet
  registry.example:5000/mirror/web:1.2: not asked yet

REGISTRY         IMAGES  READY  UNKNOWN  NOT READY  NO EQUIVALENT
docker.io        1       0      0        0          1
not a reference  1       0      0        0          1
quay.io          1       0      1        0          0

0 of 3 images in use have a proven equivalent
kubectl saffire init -n NAMESPACE declares equivalents
kubectl saffire copy-plan tells what is to be copied
""") == (status, out)  # fmt: skip


async def test_a_report_for_programs(tmp_path: Path) -> None:
    """It has every image with its equivalents, and the counts of each registry."""
    _, out, _ = await typed(tmp_path, "-n", "shop", "-o", "json")
    said = json.loads(out)
    assert (False, {"no equivalent": 1}) == (said["asked"], said["registries"]["docker.io"])
    assert {
        "namespace": "shop",
        "image": "quay.io/acme/web:1.2",
        "registry": "quay.io",
        "verdict": "unknown",
        "equivalents": [
            {"image": "ghcr.io/acme/web:1.2", "state": "not asked yet"},
            {"image": "registry.example:5000/mirror/web:1.2", "state": "not asked yet"},
        ],
    } == said["images"][-1]


async def test_a_page_names_its_scope(tmp_path: Path) -> None:
    """An auditor sees whether it is about the whole cluster."""
    assert "<p>the whole cluster, 2026-11-23 02:00 UTC." in (await typed(tmp_path, "-o", "html"))[1]
    assert "<p>namespace shop, 2026-11-23 02:00 UTC." in (await typed(tmp_path, "-o", "html", "-n", "shop"))[1]


async def test_an_empty_cluster_lacks_nothing(tmp_path: Path) -> None:
    """Nothing is in use, so that nothing can hang."""
    assert (0, "0 of 0 images in use have a proven equivalent\n") == (await typed(tmp_path, objects=[]))[:2]
