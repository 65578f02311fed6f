"""Real registries are checked before a workload moves on a real node: which alternative is taken, with which proof."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from playground.cluster.api import Manifest
from playground.cluster.controlplane import ControlPlane
from playground.environment import install, run_saffire
from playground.node.images import Images
from playground.node.registries import Registry
from testkit.api.namespace_fixture import HISTORY
from testkit.api.workloads import container, deployment, images, pod, pod_spec, pod_spec_of
from testkit.node.image_pushes import PASSWORD, PASSWORDS, USER, grown, lose, push
from testkit.node.namespace_fixture import NamespaceFixture, works
from testkit.oci_images import image

COOLDOWN_SECONDS = 30
SLOW_SECONDS = 120


@dataclass(frozen=True)
class RegistryPool:
    """
    Real registries that Saffire may check. Each has the image `sleeps:v1` of the test's repository in some way.

    `old` is the registry of the workloads, which tests let die.
    """

    old: Registry
    empty: Registry
    rebuilt: Registry
    foreign: Registry
    private: Registry
    lossy: Registry
    good: Registry


@pytest.fixture(scope="module")
async def pool(plane: ControlPlane) -> AsyncIterator[RegistryPool]:
    """Give the registries, and Saffire, which may check them and gets the cluster's Events."""
    async with AsyncExitStack() as stack:
        passwords = ("", "", "", "", PASSWORDS, "", "")
        registries = [await stack.enter_async_context(Registry(password_file)) for password_file in passwords]
        await install(plane.admin)
        insecure = ",".join(registry.domain for registry in registries)
        lines: list[dict[str, Any]] = []
        await stack.enter_async_context(run_saffire(plane, lines.append, SAFFIRE_INSECURE_REGISTRIES=insecure))
        yield RegistryPool(*registries)


@pytest.fixture
async def old(pool: RegistryPool, namespace: NamespaceFixture, built: Images) -> Registry:
    """Give a registry that has the image that the test's workload runs; the good registry has it too."""
    name = f"{namespace.name}/sleeps:v1"
    await pool.old.revive()
    for holder in (pool.old, pool.good):
        await built.push("sleeps", f"{holder.domain}/{name}")
    await built.push("sleeps", f"{pool.private.domain}/{name}", credentials=f"{USER}:{PASSWORD}")
    await built.push("ends", f"{pool.rebuilt.domain}/{name}")
    await push(pool.foreign, name, image("linux/arm64"))
    return pool.old


async def offer(namespace: NamespaceFixture, old: Registry, *registries: Registry, **spec: object) -> None:
    """Create a source that names where else the images are, in order of preference. The old registry has answered."""
    equivalent = [f"{holder.domain}/{namespace.name}/*" for holder in (old, *registries)]
    await namespace.declare(
        {
            "apiVersion": "saffire.fairwinds.com/v1alpha1",
            "kind": "AlternateImageSource",
            "metadata": {"name": "shop"},
            "spec": {"imageSourceReplacements": [{"equivalentRepositories": equivalent}], **spec},
        }
    )


async def run(namespace: NamespaceFixture, reference: str) -> None:
    """Run a pod with an image while the image can be pulled."""
    await namespace.apply(pod(pod_spec(container(image=reference)), name="sibling"))
    await namespace.until(lambda: any(map(works, namespace.pods.values())))


def live(namespace: NamespaceFixture) -> Manifest:
    """Return the current Deployment of the namespace."""
    (deployment_now,) = namespace.objects["Deployment"].values()
    return deployment_now


def failovers(namespace: NamespaceFixture) -> list[dict[str, Any]]:
    """Return the history of the namespace's Deployment."""
    if not namespace.objects["Deployment"]:
        return []
    entries: list[dict[str, Any]] = json.loads(
        live(namespace)["metadata"].get("annotations", {}).get(HISTORY, "{}")
    ).get("failovers", [])
    return entries


def is_back(namespace: NamespaceFixture, reference: str) -> bool:
    """Say whether the namespace's Deployment has that image, and runs."""
    return {"web": reference} == images(pod_spec_of(live(namespace))) and namespace.settled()


Alternatives = Callable[[RegistryPool], tuple[Registry, Registry]]
UNFIT: dict[str, Alternatives] = {
    "without the tag": lambda pool: (pool.empty, pool.good),
    "with another digest": lambda pool: (pool.rebuilt, pool.good),
    "for another platform": lambda pool: (pool.foreign, pool.good),
    "private, after one without the tag": lambda pool: (pool.empty, pool.private),
}


@pytest.mark.parametrize("alternatives", UNFIT.values(), ids=UNFIT)
async def test_the_one_that_is_proven_is_taken(
    alternatives: Alternatives, namespace: NamespaceFixture, pool: RegistryPool, old: Registry
) -> None:
    """A running sibling tells the digest: the first alternative is passed over, and the other one is taken."""
    unfit, chosen = alternatives(pool)
    reference = f"{old.domain}/{namespace.name}/sleeps:v1"
    await run(namespace, reference)
    await old.die()
    await let_pull(namespace, pool.private)
    await offer(namespace, old, unfit, chosen)
    secrets = {"imagePullSecrets": [{"name": "pull"}]}
    await namespace.apply(deployment(pod_spec(container(image=reference, imagePullPolicy="Always"), **secrets)))
    moved = f"{chosen.domain}/{namespace.name}/sleeps:v1"
    await namespace.until(lambda: bool(namespace.objects["Deployment"]) and is_back(namespace, moved), SLOW_SECONDS)
    (entry,) = failovers(namespace)
    assert (reference, moved, "equal digest") == (entry["from"], entry["to"], entry["proof"])


async def test_pods_pull_with_the_secret_that_their_template_is_given(
    namespace: NamespaceFixture, pool: RegistryPool, old: Registry
) -> None:
    """The pods name no secret, and the alternative is private: the patch adds the source's secret, and they run."""
    reference = f"{old.domain}/{namespace.name}/sleeps:v1"
    await old.die()
    await let_pull(namespace, pool.private)
    await offer(namespace, old, pool.private, credentials=[{"registry": pool.private.domain, "secretName": "pull"}])
    await namespace.apply(deployment(pod_spec(container(image=reference, imagePullPolicy="Always"))))
    moved = f"{pool.private.domain}/{namespace.name}/sleeps:v1"
    await namespace.until(lambda: bool(namespace.objects["Deployment"]) and is_back(namespace, moved), SLOW_SECONDS)
    assert [{"name": "pull"}] == pod_spec_of(live(namespace))["imagePullSecrets"]
    (entry,) = failovers(namespace)
    assert (moved, "present", "pull") == (entry["to"], entry["proof"], entry["secret"])


async def let_pull(namespace: NamespaceFixture, registry: Registry) -> None:
    """Create the pull secret of a registry, and let Saffire read it with the role of the documentation."""
    config = {"auths": {registry.domain: {"username": USER, "password": PASSWORD}}}
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["pull"], "verbs": ["get"]}
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "saffire-pull-secrets"}}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "saffire-pull-secrets"}
    saffire_ = {"kind": "ServiceAccount", "name": "saffire", "namespace": "saffire"}
    await namespace.apply({**rbac, "kind": "Role", "rules": [rule]})
    await namespace.apply({**rbac, "kind": "RoleBinding", "roleRef": role, "subjects": [saffire_]})
    await namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "pull"},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": json.dumps(config)},
        }
    )


@pytest.fixture
async def lossy(pool: RegistryPool, namespace: NamespaceFixture, old: Registry) -> str:
    """Give the reference, by digest, of an image that no node has and whose layer one registry has lost."""
    path = f"{namespace.name}/sleeps"
    made = await grown(old, f"{path}:v1", namespace.name)
    for holder in (pool.lossy, pool.good):
        await push(holder, f"{path}:v2", made)
    await lose(pool.lossy, path, made.parsed["layers"][-1]["digest"])
    await old.die()
    return f"{path}:v2@{made.digest}"


async def test_strict_refuses_a_registry_that_has_lost_a_layer(
    namespace: NamespaceFixture, pool: RegistryPool, old: Registry, lossy: str
) -> None:
    """The registry has the manifest with the right digest; the workload stays, and an Event says what is missing."""
    await offer(namespace, old, pool.lossy, verification="Strict")
    await namespace.apply(deployment(pod_spec(container(image=f"{old.domain}/{lossy}"))))
    prefix = "CandidateNotProven: "
    await namespace.until(
        lambda: any(prefix in event["message"] for event in namespace.objects["Event"].values()), SLOW_SECONDS
    )
    (event,) = [event for event in namespace.objects["Event"].values() if prefix in event["message"]]
    assert f"{pool.lossy.domain}/{lossy}: {pool.lossy.domain} lacks a part of it: layer sha256:" in event["message"]
    assert {"web": f"{old.domain}/{lossy}"} == images(pod_spec_of(live(namespace)))
    assert [] == failovers(namespace)


async def test_a_pull_that_fails_at_the_alternative_leads_on(
    namespace: NamespaceFixture, pool: RegistryPool, old: Registry, lossy: str
) -> None:
    """`BestEffort` checks no layers: the pull fails there, and the next alternative is taken within one cooldown."""
    await offer(namespace, old, pool.lossy, pool.good)
    await namespace.apply(deployment(pod_spec(container(image=f"{old.domain}/{lossy}"))))
    moved = f"{pool.good.domain}/{lossy}"
    await namespace.until(lambda: bool(namespace.objects["Deployment"]) and is_back(namespace, moved), SLOW_SECONDS)
    first, second = failovers(namespace)
    assert (f"{pool.lossy.domain}/{lossy}", moved) == (first["to"], second["to"])
    assert ["equal digest"] * 2 == [first["proof"], second["proof"]]
    waited = datetime.fromisoformat(second["at"]) - datetime.fromisoformat(first["at"])
    assert waited.total_seconds() <= COOLDOWN_SECONDS
