"""`kubectl saffire init`, `copy-plan` and `report`: sources for the images in use, and what their equivalents lack."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from playground import ROOT
from playground.cluster.controlplane import ControlPlane
from testkit import scripted_registry as shapes
from testkit.api.namespace_fixture import GROUP, NamespaceFixture
from testkit.api.registry_pool import PATH, RegistryPool
from testkit.api.workloads import ALIVE, OLD, container, deployment, pod, pod_spec
from testkit.check_registry import WEB

COLUMNS = 80


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status, and what it wrote."""

    status: int
    out: str
    err: str


async def saffire(
    kubeconfig: Path, *arguments: str, stdin: str = "", environ: Mapping[str, str] | None = None
) -> Ended:
    """Run the plugin as kubectl does; assert that its prose is no wider than a terminal."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kubectl_saffire", *arguments, "--kubeconfig", str(kubeconfig)),
        cwd=ROOT,
        env={**os.environ, **(environ or {}), "COLUMNS": str(COLUMNS)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(stdin.encode())
    assert [] == [line for line in err.decode().splitlines() if len(line) > COLUMNS]
    return Ended(process.returncode or 0, out.decode(), err.decode())


async def scaled_down(namespace: NamespaceFixture, *images: str) -> None:
    """Create a Deployment without pods, so that only its template names the images."""
    containers = (container(f"c{number}", image) for number, image in enumerate(images))
    await namespace.apply(deployment(pod_spec(*containers), replicas=0))


async def test_init_writes_a_source_for_what_runs(cluster: ControlPlane, namespace: NamespaceFixture) -> None:
    """Images of pods and templates get a source on the standard output; what lacks a mapping is named elsewhere."""
    await scaled_down(namespace, OLD)
    await namespace.apply(pod(pod_spec(container(image=f"{ALIVE}/tools/log:v1")), name="log"))
    command = ("init", "-n", namespace.name, "--map", "quay.io/acme=ghcr.io/acme")
    ended = await saffire(cluster.kubeconfig, *command)
    expected = {
        "apiVersion": GROUP,
        "kind": "AlternateImageSource",
        "metadata": {"name": "saffire", "namespace": namespace.name},
        "spec": {"imageSourceReplacements": [{"equivalentRepositories": ["quay.io/acme/*", "ghcr.io/acme/*"]}]},
    }
    assert (0, expected) == (ended.status, yaml.safe_load(ended.out))
    assert "  --map ghcr.io/tools=REGISTRY/tools\n" in ended.err
    assert [] == (await namespace.api.get(namespace.sources))["items"]


async def test_init_applies_when_it_is_told_to(cluster: ControlPlane, namespace: NamespaceFixture) -> None:
    """With --apply, the source is in the cluster; one that is there already is left as it is."""
    await scaled_down(namespace, OLD)
    mirrors = """
        kind: ImageTagMirrorSet
        apiVersion: config.openshift.io/v1
        spec: {imageTagMirrors: [{source: quay.io, mirrors: [mirror.example.com/quay]}]}
    """
    command = ("init", "-n", namespace.name, "--from", "-", "--apply")
    ended = await saffire(cluster.kubeconfig, *command, stdin=mirrors)
    assert 0 == ended.status, ended.err
    (source,) = (await namespace.api.get(namespace.sources))["items"]
    assert [{"equivalentRepositories": ["quay.io/*", "mirror.example.com/quay/*"]}] == source["spec"][
        "imageSourceReplacements"
    ]
    assert ["kubectl-saffire"] == [entry["manager"] for entry in source["metadata"]["managedFields"]]
    again = await saffire(cluster.kubeconfig, *command, stdin=mirrors.replace("mirror.", "other."))
    assert 2 == again.status
    assert "AlternateImageSource/saffire exists." in again.err
    assert [source] == (await namespace.api.get(namespace.sources))["items"]


async def test_init_without_a_mapping_tells_which_are_needed(
    cluster: ControlPlane, namespace: NamespaceFixture
) -> None:
    """An image that no runtime would pull is named, escaped; there is nothing on the standard output."""
    await scaled_down(namespace, OLD, "$(touch owned)\x1b[2J")
    ended = await saffire(cluster.kubeconfig, "init", "-n", namespace.name)
    assert (1, "") == (ended.status, ended.out)
    assert "  --map quay.io/acme=REGISTRY/acme\n" in ended.err
    assert r"$(touch owned)\x1b[2J: not an image reference" in ended.err


async def test_copy_plan_has_exactly_what_is_missing(
    cluster: ControlPlane, namespace: NamespaceFixture, pool: RegistryPool
) -> None:
    """What the registry does not have is in the plan until it is copied; a registry that is down leaves it open."""
    old, new = pool.filled(), pool.empty()
    await namespace.source(f"{old.domain}/*", f"{new.domain}/*")
    await scaled_down(namespace, f"{old.domain}/{PATH}:v1", f"{old.domain}/{PATH}@{WEB.digest}", "$(touch owned)")
    command = ("copy-plan", "-n", namespace.name, "-o", "skopeo")

    ended = await saffire(cluster.kubeconfig, *command, environ=pool.environ)
    copies = [
        f"skopeo copy --all --preserve-digests docker://{old.domain}/{PATH}{suffix} docker://{new.domain}/{PATH}{suffix}"
        for suffix in (":v1", f"@{WEB.digest}")
    ]
    assert (0, copies) == (ended.status, ended.out.splitlines()), ended.err
    assert "2 to copy, 0 there already, 0 open." in ended.err

    new.push(f"{PATH}:v1", WEB)
    ended = await saffire(cluster.kubeconfig, *command, environ=pool.environ)
    assert (0, "") == (ended.status, ended.out), ended.err
    assert "0 to copy, 2 there already, 0 open." in ended.err

    new.shape = shapes.status(503)
    ended = await saffire(cluster.kubeconfig, *command, environ=pool.environ)
    assert (1, "") == (ended.status, ended.out), ended.err
    assert f"open: {new.domain}/{PATH}:v1: its registry gives no usable answer" in " ".join(ended.err.split())

    ended = await saffire(cluster.kubeconfig, *command, "--all", environ=pool.environ)
    assert (0, copies) == (ended.status, ended.out.splitlines()), ended.err


async def test_copy_plan_without_a_source_tells_how_to_write_it(
    cluster: ControlPlane, namespace: NamespaceFixture
) -> None:
    """Nothing is planned, and the next command is named."""
    await scaled_down(namespace, OLD)
    ended = await saffire(cluster.kubeconfig, "copy-plan", "-n", namespace.name)
    assert (1, "") == (ended.status, ended.out)
    assert f"kubectl saffire init -n {namespace.name}" in " ".join(ended.err.split())


async def test_report_tells_what_has_no_proven_equivalent(
    cluster: ControlPlane, namespace: NamespaceFixture, pool: RegistryPool
) -> None:
    """The registries are asked only with --ask; a page of HTML has the same images as a terminal."""
    old, new = pool.filled(), pool.filled()
    await namespace.source(f"{old.domain}/*", f"{new.domain}/*")
    image = f"{old.domain}/{PATH}@{WEB.digest}"
    await scaled_down(namespace, image, "nginx")
    command = ("report", "-n", namespace.name)

    ended = await saffire(cluster.kubeconfig, *command, "-o", "json", environ=pool.environ)
    verdicts = {entry["image"]: entry["verdict"] for entry in json.loads(ended.out)["images"]}
    assert (1, {image: "unknown", "nginx": "no equivalent"}) == (ended.status, verdicts), ended.err
    assert [] == new.requests

    ended = await saffire(cluster.kubeconfig, *command, "--ask", environ=pool.environ)
    assert 1 == ended.status, ended.err
    assert "1 of 2 images in use have a proven equivalent" in ended.out
    assert [] == [line for line in ended.out.splitlines() if len(line) > COLUMNS]

    ended = await saffire(cluster.kubeconfig, *command, "--ask", "-o", "html", environ=pool.environ)
    assert f"<td>{image}</td><td>{new.domain}/{PATH}@{WEB.digest}: ready</td>" in ended.out, ended.err
