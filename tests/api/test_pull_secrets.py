"""Private alternatives: a template gets the pull secret that its pods lack; a live pod cannot get one."""

from typing import Any

import pytest

from playground.cluster.api import Manifest
from playground.cluster.controlplane import ControlPlane
from testkit.api.namespace_fixture import HISTORY, until
from testkit.api.registry_fixture import RegistryFixture, failing, let_read
from testkit.api.registry_pool import PATH, RegistryPool
from testkit.api.workloads import (
    container,
    cron_job,
    daemon_set,
    deployment,
    job,
    job_of,
    pod,
    pod_spec,
    pod_spec_of,
    stateful_set,
)
from testkit.scripted_registry import Registry

PULL = [{"name": "pull"}]
NOTE = "its template names the pull secret pull for that"


@pytest.fixture(params=["Basic", "Bearer"])
async def locked(
    request: pytest.FixtureRequest, registry_fixture: RegistryFixture, pool: RegistryPool, cluster: ControlPlane
) -> Registry:
    """Give a registry that accepts the source's pull secret, which the function may read."""
    registry = pool.filled()
    await registry_fixture.lock(registry, request.param)
    await let_read(registry_fixture.namespace, cluster)
    return registry


async def offer(registry_fixture: RegistryFixture, *registries: Registry, **spec: Any) -> None:
    """Create a source with these registries in order; the first is private."""
    credentials = [{"registry": registries[0].domain, "secretName": "pull"}]
    await registry_fixture.offer(*(registry.domain for registry in registries), credentials=credentials, **spec)


def spec_of(registry_fixture: RegistryFixture, **fields: Any) -> Manifest:
    """Return a pod's spec whose image cannot be pulled."""
    return pod_spec(container(image=registry_fixture.image(), imagePullPolicy="Always"), **fields)


def moved(registry: Registry) -> str:
    """Return the reference of the image in another registry."""
    return f"{registry.domain}/{PATH}:v1"


def secrets_of(manifest: Manifest) -> list[str]:
    """Return the pull secrets that a pod, or a template, names."""
    return [secret["name"] for secret in pod_spec_of(manifest).get("imagePullSecrets", ())]


def without_record(manifest: Manifest) -> Manifest:
    """Return the spec of an object, and its annotations without those that every change rewrites."""
    written = {HISTORY, "deployment.kubernetes.io/revision"}
    annotations = manifest["metadata"].get("annotations", {})
    return {"spec": manifest["spec"], **{key: value for key, value in annotations.items() if key not in written}}


async def give(registry_fixture: RegistryFixture, *names: str) -> None:
    """Have the ServiceAccount add pull secrets to pods that name none."""
    path = f"/api/v1/namespaces/{registry_fixture.namespace.name}/serviceaccounts/default"
    await registry_fixture.namespace.api.patch(path, {"imagePullSecrets": [{"name": name} for name in names]})


async def new_pod(registry_fixture: RegistryFixture, image: str) -> Manifest:
    """Wait for a pod that was created with this image, and return it."""

    async def look() -> Manifest | None:
        matching = (
            pod
            for pod in await registry_fixture.namespace.pods()
            if pod_spec_of(pod)["containers"][0]["image"] == image
        )
        return next(matching, None)

    return await until(look)


async def test_the_template_of_a_deployment_gets_the_secret(
    registry_fixture: RegistryFixture, locked: Registry
) -> None:
    """The patch of the image adds the secret and changes nothing else. New pods name it, and each record says so."""
    await offer(registry_fixture, locked)
    event = await registry_fixture.fail(failing(registry_fixture))
    before = await registry_fixture.namespace.read(deployment())
    answer = await registry_fixture.namespace.post(event)
    assert (200, f"moved web of Deployment/web to {moved(locked)}") == (answer.status, answer.text)
    after = await registry_fixture.namespace.read(deployment())
    pod_spec_of(before)["containers"][0]["image"] = moved(locked)
    pod_spec_of(before)["imagePullSecrets"] = PULL
    assert without_record(before) == without_record(after)
    assert [("deployments", "web")] == registry_fixture.namespace.patches()
    assert ["pull"] == secrets_of(await new_pod(registry_fixture, moved(locked)))
    (switch,) = (await registry_fixture.namespace.status())["switches"]
    assert ("present", NOTE) == (switch["proof"], switch["note"])
    ((reason, message),) = await registry_fixture.namespace.saffire_events(after)
    assert ("Failover", True) == (reason, message.endswith(NOTE))
    assert '"secret":"pull"' in after["metadata"]["annotations"][HISTORY]


async def test_a_template_keeps_what_its_pods_had(registry_fixture: RegistryFixture, locked: Registry) -> None:
    """A pod that names a secret gets none from its ServiceAccount, so the patch names the ServiceAccount's too."""
    await give(registry_fixture, "given")
    await offer(registry_fixture, locked)
    await registry_fixture.namespace.post(await registry_fixture.fail(failing(registry_fixture)))
    assert ["given", "pull"] == secrets_of(await registry_fixture.namespace.read(deployment()))
    assert ["given", "pull"] == secrets_of(await new_pod(registry_fixture, moved(locked)))


async def test_a_secret_is_added_to_those_of_the_template(registry_fixture: RegistryFixture, locked: Registry) -> None:
    """The secret is added at the end, once."""
    await offer(registry_fixture, locked)
    await registry_fixture.namespace.post(
        await registry_fixture.fail(failing(registry_fixture, imagePullSecrets=[{"name": "own"}]))
    )
    assert ["own", "pull"] == secrets_of(await registry_fixture.namespace.read(deployment()))


async def test_what_the_service_account_gives_is_not_added(registry_fixture: RegistryFixture, locked: Registry) -> None:
    """Pods have the secret already: the template gets none, and even a StatefulSet's pod moves in place."""
    await give(registry_fixture, "pull")
    await offer(registry_fixture, locked)
    await registry_fixture.namespace.post(await registry_fixture.fail(stateful_set(spec_of(registry_fixture))))
    assert [("statefulsets", "web"), ("pods", "web-0")] == registry_fixture.namespace.patches()
    assert [] == secrets_of(await registry_fixture.namespace.read(stateful_set()))
    assert {"web": (moved(locked), "present")} == await registry_fixture.proofs()


async def test_what_everybody_may_read_needs_no_secret(
    registry_fixture: RegistryFixture, pool: RegistryPool, cluster: ControlPlane
) -> None:
    """If a source declares credentials for a public registry, no template gets them."""
    public = pool.filled()
    await registry_fixture.lock(public)
    public.challenge = ""
    await let_read(registry_fixture.namespace, cluster)
    await offer(registry_fixture, public)
    await registry_fixture.namespace.post(await registry_fixture.fail(stateful_set(spec_of(registry_fixture))))
    assert [("statefulsets", "web"), ("pods", "web-0")] == registry_fixture.namespace.patches()
    assert [] == secrets_of(await registry_fixture.namespace.read(stateful_set()))


async def test_a_stateful_set_s_pod_says_that_it_has_to_be_made_anew(
    registry_fixture: RegistryFixture, locked: Registry
) -> None:
    """The template gets image and secret. The Event says to delete the stuck pod; its successor has both."""
    await offer(registry_fixture, locked)
    await registry_fixture.namespace.post(await registry_fixture.fail(stateful_set(spec_of(registry_fixture))))
    assert [("statefulsets", "web")] == registry_fixture.namespace.patches()
    assert ["pull"] == secrets_of(await registry_fixture.namespace.read(stateful_set()))
    stuck = await registry_fixture.namespace.read(pod(name="web-0"))
    ((reason, message),) = await registry_fixture.namespace.saffire_events(stuck)
    assert ("PullSecretMissing", True) == (reason, message.endswith("delete Pod/web-0"))
    await registry_fixture.namespace.sweep()
    assert [("statefulsets", "web")] == registry_fixture.namespace.patches()
    await registry_fixture.namespace.api.delete(await registry_fixture.namespace.api.path(stuck))
    assert ["pull"] == secrets_of(await new_pod(registry_fixture, moved(locked)))


async def test_a_cron_job_s_later_jobs_get_the_secret(registry_fixture: RegistryFixture, locked: Registry) -> None:
    """The jobTemplate gets the secret. The live Job cannot change, and the Event says to delete it."""
    await offer(registry_fixture, locked)
    registry_fixture.namespace.dead.add(registry_fixture.old)
    live = await registry_fixture.namespace.apply(cron_job(spec_of(registry_fixture)))
    await registry_fixture.namespace.apply(job_of(live))
    stuck, *_ = await registry_fixture.namespace.failing()
    await registry_fixture.namespace.post(await registry_fixture.namespace.event(stuck))
    assert [("cronjobs", "web")] == registry_fixture.namespace.patches()
    assert ["pull"] == secrets_of(await registry_fixture.namespace.read(cron_job()))
    ((reason, message),) = await registry_fixture.namespace.saffire_events(stuck)
    assert ("PullSecretMissing", True) == (reason, message.endswith("delete Job/web-now"))


async def test_a_daemon_set_s_rollout_replaces_its_pod(registry_fixture: RegistryFixture, locked: Registry) -> None:
    """Only the template is patched; its rollout replaces the pod."""
    await offer(registry_fixture, locked)
    await registry_fixture.namespace.post(await registry_fixture.fail(daemon_set(spec_of(registry_fixture))))
    assert [("daemonsets", "web")] == registry_fixture.namespace.patches()
    assert ["pull"] == secrets_of(await new_pod(registry_fixture, moved(locked)))


@pytest.mark.parametrize("make", [pod, job], ids=["Pod", "Job"])
async def test_a_pod_without_a_template_is_left_with_the_reason(
    make: Any, registry_fixture: RegistryFixture, locked: Registry
) -> None:
    """No patch can give a bare pod a secret: the Event at the pod says so, and what to do."""
    await offer(registry_fixture, locked)
    registry_fixture.namespace.dead.add(registry_fixture.old)
    stuck, event = await registry_fixture.namespace.fail(make(spec_of(registry_fixture)))
    answer = await registry_fixture.namespace.post(event)
    image = registry_fixture.image()
    refused = f"{registry_fixture.old} refused the connection"
    left = f"left web with {image}: PullSecretMissing: {image}: {refused}; {moved(locked)}: the pod cannot read it "
    assert (200, True) == (answer.status, answer.text.startswith(left))
    assert [] == registry_fixture.namespace.patches()
    ((reason, message),) = await registry_fixture.namespace.saffire_events(stuck)
    assert "PullSecretMissing" == reason
    assert "without the pull secret pull" in message


async def test_a_pod_goes_where_it_is_let_in(
    registry_fixture: RegistryFixture, locked: Registry, pool: RegistryPool
) -> None:
    """A bare pod moves to a public alternative, even if that is lower in the order."""
    public = pool.filled()
    await offer(registry_fixture, locked, public)
    await registry_fixture.namespace.post(await registry_fixture.fail(pod(spec_of(registry_fixture))))
    assert {"web": (moved(public), "present")} == await registry_fixture.proofs()


async def test_a_template_goes_where_the_order_says(
    registry_fixture: RegistryFixture, locked: Registry, pool: RegistryPool
) -> None:
    """A template can get the secret, so it moves to the first alternative in the order."""
    await offer(registry_fixture, locked, pool.filled())
    await registry_fixture.namespace.post(await registry_fixture.fail(failing(registry_fixture)))
    assert {"web": (moved(locked), "present")} == await registry_fixture.proofs()


async def test_without_the_role_the_image_alone_is_moved(registry_fixture: RegistryFixture, pool: RegistryPool) -> None:
    """Without permission to read the secret, StatefulSet and pod move `unverified`, and get no secret."""
    private = pool.filled()
    await registry_fixture.lock(private)
    await offer(registry_fixture, private)
    await registry_fixture.namespace.post(await registry_fixture.fail(stateful_set(spec_of(registry_fixture))))
    assert [("statefulsets", "web"), ("pods", "web-0")] == registry_fixture.namespace.patches()
    assert [] == secrets_of(await registry_fixture.namespace.read(stateful_set()))
    assert {"web": (moved(private), "unverified")} == await registry_fixture.proofs()
