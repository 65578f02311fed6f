"""Private alternatives: a template is given the pull secret that its pods lack, which no live pod can be."""

from typing import Any

import pytest

from playground.api import Manifest
from playground.controlplane import ControlPlane
from testkit.api.namespace_fixture import HISTORY, until
from testkit.api.registry_fixture import Shop, failing, let_read
from testkit.api.registry_pool import PATH, Market
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
async def locked(request: pytest.FixtureRequest, shop: Shop, market: Market, cluster: ControlPlane) -> Registry:
    """Give a registry that lets in whoever has the source's pull secret, which the function may read."""
    registry = market.filled()
    await shop.lock(registry, request.param)
    await let_read(shop.stage, cluster)
    return registry


async def offer(shop: Shop, *registries: Registry, **spec: Any) -> None:
    """Offer registries, in this order, of which the first is private."""
    credentials = [{"registry": registries[0].domain, "secretName": "pull"}]
    await shop.offer(*(one.domain for one in registries), credentials=credentials, **spec)


def spec_of(shop: Shop, **fields: Any) -> Manifest:
    """Return a pod's spec whose image cannot be pulled."""
    return pod_spec(container(image=shop.image(), imagePullPolicy="Always"), **fields)


def moved(registry: Registry) -> str:
    """Return where the image is in another registry."""
    return f"{registry.domain}/{PATH}:v1"


def secrets_of(manifest: Manifest) -> list[str]:
    """Return which pull secrets a pod, or a template, names."""
    return [one["name"] for one in pod_spec_of(manifest).get("imagePullSecrets", ())]


def without_record(manifest: Manifest) -> Manifest:
    """Return the spec of an object, and its annotations without what is written at each change."""
    written = {HISTORY, "deployment.kubernetes.io/revision"}
    annotations = manifest["metadata"].get("annotations", {})
    return {"spec": manifest["spec"], **{key: value for key, value in annotations.items() if key not in written}}


async def give(shop: Shop, *names: str) -> None:
    """Have the ServiceAccount give pull secrets to pods that name none."""
    path = f"/api/v1/namespaces/{shop.stage.namespace}/serviceaccounts/default"
    await shop.stage.api.patch(path, {"imagePullSecrets": [{"name": name} for name in names]})


async def new_pod(shop: Shop, image: str) -> Manifest:
    """Wait for a pod that was made with this image, and return it."""

    async def look() -> Manifest | None:
        found = (one for one in await shop.stage.pods() if pod_spec_of(one)["containers"][0]["image"] == image)
        return next(found, None)

    return await until(look)


async def test_the_template_of_a_deployment_gets_the_secret(shop: Shop, locked: Registry) -> None:
    """By the patch that changes the image, which changes nothing else; new pods name it, and each record says so."""
    await offer(shop, locked)
    event = await shop.fail(failing(shop))
    before = await shop.stage.read(deployment())
    answer = await shop.stage.post(event)
    assert (200, f"moved web of Deployment/web to {moved(locked)}") == (answer.status, answer.text)
    after = await shop.stage.read(deployment())
    pod_spec_of(before)["containers"][0]["image"] = moved(locked)
    pod_spec_of(before)["imagePullSecrets"] = PULL
    assert without_record(before) == without_record(after)
    assert [("deployments", "web")] == shop.stage.patches()
    assert ["pull"] == secrets_of(await new_pod(shop, moved(locked)))
    (switch,) = (await shop.stage.status())["switches"]
    assert ("present", NOTE) == (switch["proof"], switch["note"])
    ((reason, message),) = await shop.stage.told(after)
    assert ("Failover", True) == (reason, message.endswith(NOTE))
    assert '"secret":"pull"' in after["metadata"]["annotations"][HISTORY]


async def test_a_template_keeps_what_its_pods_had(shop: Shop, locked: Registry) -> None:
    """What the ServiceAccount gives to pods that name no secret is named along with the one that is added."""
    await give(shop, "given")
    await offer(shop, locked)
    await shop.stage.post(await shop.fail(failing(shop)))
    assert ["given", "pull"] == secrets_of(await shop.stage.read(deployment()))
    assert ["given", "pull"] == secrets_of(await new_pod(shop, moved(locked)))


async def test_a_secret_is_added_to_those_of_the_template(shop: Shop, locked: Registry) -> None:
    """At the end, once."""
    await offer(shop, locked)
    await shop.stage.post(await shop.fail(failing(shop, imagePullSecrets=[{"name": "own"}])))
    assert ["own", "pull"] == secrets_of(await shop.stage.read(deployment()))


async def test_what_the_service_account_gives_is_not_added(shop: Shop, locked: Registry) -> None:
    """Pods have the secret already, so that a StatefulSet's is moved in place too; its template names none."""
    await give(shop, "pull")
    await offer(shop, locked)
    await shop.stage.post(await shop.fail(stateful_set(spec_of(shop))))
    assert [("statefulsets", "web"), ("pods", "web-0")] == shop.stage.patches()
    assert [] == secrets_of(await shop.stage.read(stateful_set()))
    assert {"web": (moved(locked), "present")} == await shop.proofs()


async def test_what_everybody_may_read_needs_no_secret(shop: Shop, market: Market, cluster: ControlPlane) -> None:
    """Credentials that a source declares for a public registry are added to nothing."""
    public = market.filled()
    await shop.lock(public)
    public.challenge = ""
    await let_read(shop.stage, cluster)
    await offer(shop, public)
    await shop.stage.post(await shop.fail(stateful_set(spec_of(shop))))
    assert [("statefulsets", "web"), ("pods", "web-0")] == shop.stage.patches()
    assert [] == secrets_of(await shop.stage.read(stateful_set()))


async def test_a_stateful_set_s_pod_says_that_it_has_to_be_made_anew(shop: Shop, locked: Registry) -> None:
    """Its template gets image and secret, the stuck pod is not patched; deleted, as told, it comes back with both."""
    await offer(shop, locked)
    await shop.stage.post(await shop.fail(stateful_set(spec_of(shop))))
    assert [("statefulsets", "web")] == shop.stage.patches()
    assert ["pull"] == secrets_of(await shop.stage.read(stateful_set()))
    stuck = await shop.stage.read(pod(name="web-0"))
    ((reason, message),) = await shop.stage.told(stuck)
    assert ("PullSecretMissing", True) == (reason, message.endswith("delete Pod/web-0"))
    await shop.stage.sweep()
    assert [("statefulsets", "web")] == shop.stage.patches()
    await shop.stage.api.delete(await shop.stage.api.path(stuck))
    assert ["pull"] == secrets_of(await new_pod(shop, moved(locked)))


async def test_a_cron_job_s_later_jobs_get_the_secret(shop: Shop, locked: Registry) -> None:
    """Its jobTemplate gets it; the live Job, which nobody can change, is what an operator is told to delete."""
    await offer(shop, locked)
    shop.stage.dead.add(shop.old)
    live = await shop.stage.apply(cron_job(spec_of(shop)))
    await shop.stage.apply(job_of(live))
    stuck, *_ = await shop.stage.failing()
    await shop.stage.post(await shop.stage.event(stuck))
    assert [("cronjobs", "web")] == shop.stage.patches()
    assert ["pull"] == secrets_of(await shop.stage.read(cron_job()))
    ((reason, message),) = await shop.stage.told(stuck)
    assert ("PullSecretMissing", True) == (reason, message.endswith("delete Job/web-now"))


async def test_a_daemon_set_s_rollout_replaces_its_pod(shop: Shop, locked: Registry) -> None:
    """The template alone is patched, and nobody has to delete anything."""
    await offer(shop, locked)
    await shop.stage.post(await shop.fail(daemon_set(spec_of(shop))))
    assert [("daemonsets", "web")] == shop.stage.patches()
    assert ["pull"] == secrets_of(await new_pod(shop, moved(locked)))


@pytest.mark.parametrize("make", [pod, job], ids=["Pod", "Job"])
async def test_a_pod_without_a_template_is_left_with_the_reason(make: Any, shop: Shop, locked: Registry) -> None:
    """No request could change what it can read: the Event at the pod says so, and what to do."""
    await offer(shop, locked)
    shop.stage.dead.add(shop.old)
    stuck, event = await shop.stage.fail(make(spec_of(shop)))
    answer = await shop.stage.post(event)
    assert (200, f"PullSecretMissing: {moved(locked)}: ") == (answer.status, answer.text[: 21 + len(moved(locked))])
    assert [] == shop.stage.patches()
    ((reason, message),) = await shop.stage.told(stuck)
    assert "PullSecretMissing" == reason
    assert "without the pull secret pull" in message


async def test_a_pod_goes_where_it_is_let_in(shop: Shop, locked: Registry, market: Market) -> None:
    """An alternative for everybody is taken instead, though it stands further down."""
    public = market.filled()
    await offer(shop, locked, public)
    await shop.stage.post(await shop.fail(pod(spec_of(shop))))
    assert {"web": (moved(public), "present")} == await shop.proofs()


async def test_a_template_goes_where_the_order_says(shop: Shop, locked: Registry, market: Market) -> None:
    """That another alternative is for everybody changes nothing for what can be given the secret."""
    await offer(shop, locked, market.filled())
    await shop.stage.post(await shop.fail(failing(shop)))
    assert {"web": (moved(locked), "present")} == await shop.proofs()


async def test_without_the_role_the_image_alone_is_moved(shop: Shop, market: Market) -> None:
    """Nothing is known of what may be read: the StatefulSet and its pod move, `unverified`, and get no secret."""
    private = market.filled()
    await shop.lock(private)
    await offer(shop, private)
    await shop.stage.post(await shop.fail(stateful_set(spec_of(shop))))
    assert [("statefulsets", "web"), ("pods", "web-0")] == shop.stage.patches()
    assert [] == secrets_of(await shop.stage.read(stateful_set()))
    assert {"web": (moved(private), "unverified")} == await shop.proofs()
