"""`copy-plan` on a screen: the plan on the standard output, and what is open on the other."""

from pathlib import Path

import pytest

from testkit.builders import Object, cluster_source_manifest, pod, source_manifest
from testkit.listed_cluster import ListedCluster, deployed, placed

SOURCE = source_manifest(["quay.io/acme/*", "ghcr.io/acme/*", "127.0.0.1:1/acme/*"])
NOWHERE = source_manifest(["quay.io/acme/*", "127.0.0.1:1/acme/*"])
"""A source whose alternative Saffire never asks: it connects to its own machine only if it is told to."""


async def typed(folder: Path, *arguments: str, objects: list[Object] | None = None) -> tuple[int, str, str]:
    """Type a command; return its exit status, and what it wrote to both outputs."""
    cluster = ListedCluster(objects or [SOURCE, *deployed("web")])
    async with cluster.session(folder, "copy-plan", *arguments) as command:
        status = await command.run()
        return status, command.out, command.err


async def test_all_pairs_are_planned_without_a_question(tmp_path: Path) -> None:
    """Each image in use is copied to each alternative of its source."""
    copies = [
        "crane copy quay.io/acme/web:1.2 127.0.0.1:1/acme/web:1.2",
        "crane copy quay.io/acme/web:1.2 ghcr.io/acme/web:1.2",
    ]
    status, out, err = await typed(tmp_path, "--all", "-o", "crane", "-n", "shop")
    assert (0, copies) == (status, out.splitlines())
    assert "2 pairs of an image and an alternative; no registry was asked.\n" == err


async def test_the_plan_of_the_cluster_has_every_namespace_once(tmp_path: Path) -> None:
    """Cluster-wide sources count; an image of two namespaces is copied once."""
    objects = [
        cluster_source_manifest(["quay.io/acme/*", "ghcr.io/acme/*"]),
        *deployed("web"),
        *deployed("web", namespace="other"),
        *deployed("api", "quay.io/acme/api:1", namespace="other"),
    ]
    _, out, _ = await typed(tmp_path, "--all", "-o", "crane", objects=objects)
    assert [
        "crane copy quay.io/acme/api:1 ghcr.io/acme/api:1",
        "crane copy quay.io/acme/web:1.2 ghcr.io/acme/web:1.2",
    ] == out.splitlines()


async def test_what_a_registry_does_not_tell_is_open(tmp_path: Path) -> None:
    """The plan may lack a copy, which the exit status tells a script."""
    status, out, err = await typed(tmp_path, objects=[NOWHERE, *deployed("web")])
    assert (1, "") == (status, out)
    assert (
        """\
0 to copy, 0 there already, 1 open.
  open: 127.0.0.1:1/acme/web:1.2: its registry gives no usable answer
"""
        == err
    )


@pytest.mark.parametrize(("arguments", "namespace"), [((), "NAMESPACE"), (("-n", "shop"), "shop")])
async def test_without_a_source_the_next_command_is_named(
    tmp_path: Path, arguments: tuple[str, ...], namespace: str
) -> None:
    """There is no alternative to copy to."""
    status, out, err = await typed(tmp_path, *arguments, objects=deployed("web"))
    assert (1, "") == (status, out)
    assert f"kubectl saffire init -n {namespace} writes one." in " ".join(err.split())


async def test_nothing_hostile_gets_into_a_plan(tmp_path: Path) -> None:
    """What is no reference has no alternative."""
    hostile = placed(pod(web="quay.io/acme/web:1; touch owned", api="quay.io/acme/$(id)"), "bare")
    for output in ("regsync", "skopeo", "crane"):
        assert (0, "") == (await typed(tmp_path, "--all", "-o", output, objects=[SOURCE, hostile]))[:2]


async def test_what_the_user_may_not_read_is_named(tmp_path: Path) -> None:
    """The function may read it, so its images may lack in the plan."""
    cluster = ListedCluster([SOURCE, *deployed("web")])
    cluster.denied.add("/apis/apps/v1/deployments")
    async with cluster.session(tmp_path, "copy-plan", "--all") as command:
        assert 0 == await command.run()
    assert "warning: you may not read objects of the kind Deployment; Saffire may\n" in command.err
