"""`drill` on a screen: what a user reads, and what a typing error says."""

from pathlib import Path

import pytest

from kubectl_saffire.commands.drill import domain
from kubectl_saffire.errors import UsageError
from testkit.builders import source_manifest, workload
from testkit.listed_cluster import ListedCluster, deployed, placed


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("quay.io", "quay.io"),
        ("https://Quay.IO/", "quay.io"),
        ("index.docker.io", "docker.io"),
        ("registry.example.com:5000", "registry.example.com:5000"),
        ("localhost:5000", "localhost:5000"),
    ],
)
def test_a_registry_is_named_as_in_references(typed: str, expected: str) -> None:
    """However a user spells a registry, it is the one that images name."""
    assert expected == domain(typed)


@pytest.mark.parametrize("typed", ["quay", "quay.io/acme", "", "not a name", "\x1b[2J", "quay.io:port"])
def test_what_is_no_registry_is_refused(typed: str) -> None:
    """The error says what to type."""
    with pytest.raises(UsageError, match=r"type a domain, such as quay\.io"):
        domain(typed)


async def test_the_screen(tmp_path: Path) -> None:
    """What moves comes first, then what hangs with its next step, then the sum, in 80 columns."""
    unlisted = deployed("left", "quay.io/acme/left:1", pods=1)
    cluster = ListedCluster([source_manifest(), *deployed("web", pods=3), *unlisted])
    async with cluster.session(tmp_path, "drill", "quay.io") as typed:
        assert 1 == await typed.run()
    expected = """\
WOULD MOVE
  namespace shop
  WORKLOAD        CONTAINER  PODS  STRATEGY  REPLACED
  Deployment/web  web        3     template  3
    to ghcr.io/acme/web:1.2 (not asked), by AlternateImageSource/shop

WOULD HANG
  namespace shop
  WORKLOAD         CONTAINER  PODS  REASON
  Deployment/left  web        1     RepositoryNotListed
    quay.io/acme/left:1: no source lists quay.io/acme/left
    next: list quay.io/acme/left with an equivalent
    $ kubectl edit ais shop -n shop

If quay.io died now, 1 container would move and 1 would hang; rollouts would
  replace 3 ready pods.
Alternatives were taken as present: --ask asks their registries.
"""
    assert expected == typed.out
    assert max(map(len, typed.out.splitlines())) <= 80


async def test_a_registry_that_nobody_uses_may_be_misspelled(tmp_path: Path) -> None:
    """Nothing would hang; the registries in use are named."""
    cluster = ListedCluster([source_manifest(), *deployed("web", pods=3)])
    async with cluster.session(tmp_path, "drill", "quay.oi") as typed:
        assert 0 == await typed.run()
    assert "nothing would happen" in typed.out
    assert "No pod has an image of quay.oi; in use: quay.io (3)." in typed.err


async def test_the_next_run_of_a_cron_job_is_shown_as_such(tmp_path: Path) -> None:
    """It has no pod yet."""
    cluster = ListedCluster([source_manifest(), placed(workload("CronJob"), "report")])
    async with cluster.session(tmp_path, "drill", "quay.io") as typed:
        assert 0 == await typed.run()
    assert "CronJob/report  web        next run  template, pods  0" in typed.out
