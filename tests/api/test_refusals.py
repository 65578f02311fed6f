"""The API server refuses, or does not answer: the answer of the function, the Events, and what stays unchanged."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from playground.cluster.api import Api, ApiError, Manifest
from playground.cluster.controlplane import ControlPlane
from testkit.api.clusters import USER, SpareCluster, stopped
from testkit.api.namespace_fixture import NamespaceFixture, statuses, until
from testkit.api.workloads import NEW, OLD, container, deployment, images, pod_spec_of, stateful_set

DENIAL = "images come from the release train"
TRIED: Manifest = {"metadata": {"labels": {"tried": "yes"}}}
POLICIES = "admissionregistration.k8s.io/v1"


@asynccontextmanager
async def policed(
    cluster: ControlPlane, namespace: NamespaceFixture, *resources: str, allowed: str = "false", tried: Manifest = TRIED
) -> AsyncIterator[None]:
    """
    Have an admission policy deny Saffire every change of a Deployment, and of other `resources`.

    What `allowed` (CEL) says is excepted; the change `tried` of a Deployment is not.
    """
    name = namespace.name
    updates = {"apiGroups": ["", "apps"], "apiVersions": ["v1"], "operations": ["UPDATE"]}
    updates["resources"] = ["deployments", *resources]
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [updates]},
        "validations": [{"expression": f"request.userInfo.username != '{USER}' || ({allowed})", "message": DENIAL}],
    }
    binding = {
        "policyName": name,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}},
    }
    policies = [
        {"apiVersion": POLICIES, "kind": kind, "metadata": {"name": name}, "spec": wanted}
        for kind, wanted in (("ValidatingAdmissionPolicy", spec), ("ValidatingAdmissionPolicyBinding", binding))
    ]
    for policy in policies:
        await cluster.admin.apply(policy)
    path = await cluster.admin.path(await namespace.apply(deployment()))
    async with Api(cluster.server, str(cluster.authority), cluster.admin.token, user=USER) as api:
        await until(lambda: _is_denied(api, path, tried=tried))
    yield
    for policy in policies:
        await cluster.admin.delete(await cluster.admin.path(policy))


@pytest.fixture
async def policed_namespace(cluster: ControlPlane, namespace: NamespaceFixture) -> AsyncIterator[NamespaceFixture]:
    """Give a namespace with a failing Deployment, whose admission policy denies Saffire every change of Deployments."""
    async with policed(cluster, namespace):
        yield namespace


async def _is_denied(api: Api, path: str, denial: str = DENIAL, tried: Manifest = TRIED) -> bool:
    try:
        await api.patch(path, tried, dryRun="All")
    except ApiError as error:
        return denial in str(error)
    return False


async def test_if_admission_denies_a_template_it_is_reported_and_the_stuck_pod_is_freed(
    policed_namespace: NamespaceFixture,
) -> None:
    """
    The answer is 403 with the policy's message, which the workload's Event and the source's status repeat.

    The workload is unchanged, and its pod runs on the alternative.
    """
    await policed_namespace.source()
    failing, *_ = await policed_namespace.failing()
    before = await policed_namespace.read(deployment())
    answer = await policed_namespace.post(await policed_namespace.event(failing))
    after = await policed_namespace.read(deployment())
    assert 403 == answer.status
    assert f"moved web of Deployment/web to {NEW}; the API server refused to patch Deployment/web: " in answer.text
    assert DENIAL in answer.text
    assert before["spec"] == after["spec"]
    assert [("pods", failing["metadata"]["name"])] == policed_namespace.patches()
    ((reason, message),) = await policed_namespace.saffire_events(after)
    assert "FailoverRefused" == reason
    assert DENIAL in message
    [switch] = (await policed_namespace.status())["switches"]
    assert [failing["metadata"]["name"]] == switch["pods"]
    assert switch["note"].startswith("its template stays, since the API server refused to patch it: ")
    assert DENIAL in switch["note"]
    await until(lambda: _runs(policed_namespace, failing))


async def test_if_admission_denies_an_alternative_the_next_one_is_tried(
    cluster: ControlPlane, namespace: NamespaceFixture
) -> None:
    """Images of the first alternative are allowed nowhere; the second moves the template, in the same repair."""
    third = NEW.replace("ghcr.io", "harbor.internal")
    spec = "(has(object.spec.template) ? object.spec.template.spec : object.spec)"
    allowed = f"!{spec}.containers.exists(container, container.image == '{NEW}')"
    tried = {"spec": {"template": {"spec": {"containers": [container(image=NEW)]}}}}
    async with policed(cluster, namespace, "pods", allowed=allowed, tried=tried):
        await namespace.source(*(image.rpartition(":")[0] for image in (OLD, NEW, third)))
        failing, *_ = await namespace.failing()
        answer = await namespace.post(await namespace.event(failing))
        assert (
            f"moved web of Deployment/web to {third}; the API server refused to patch Deployment/web: " in answer.text
        )
        assert {"web": third} == images(pod_spec_of(await namespace.read(deployment())))


async def test_a_pod_that_comes_after_a_denied_template_is_freed_too_and_then_all_is_quiet(
    policed_namespace: NamespaceFixture,
) -> None:
    """While the denial is recent, only the new pod is patched. Once no pod is stuck, sweeps patch nothing."""
    await policed_namespace.source()
    first, *_ = await policed_namespace.failing()
    await policed_namespace.post(await policed_namespace.event(first))
    await until(lambda: _runs(policed_namespace, first))
    policed_namespace.mark()
    path = await policed_namespace.api.path(await policed_namespace.read(deployment()))
    await policed_namespace.api.patch(path, {"spec": {"replicas": 2}})
    [second] = await policed_namespace.failing()
    answer = await policed_namespace.post(await policed_namespace.event(second))
    assert (200, f"moved web of Deployment/web to {NEW}") == (answer.status, answer.text)
    tried = [(call.resource, call.name) for call in policed_namespace.writes_but_status() if call.verb == "patch"]
    assert [("pods", second["metadata"]["name"])] == tried
    [switch] = (await policed_namespace.status())["switches"]
    assert [pod["metadata"]["name"] for pod in (first, second)] == switch["pods"]
    await until(lambda: _runs(policed_namespace, second))
    policed_namespace.mark()
    await policed_namespace.sweep()
    assert [] == policed_namespace.writes_but_status()


async def test_a_patch_that_rbac_forbids_is_reported_and_the_others_are_made(
    limited_namespace: NamespaceFixture,
) -> None:
    """If the template may not be patched, its stuck pod still moves, and Events report both."""
    await limited_namespace.source()
    failing, event = await limited_namespace.fail(stateful_set())
    answer = await limited_namespace.post(event)
    assert 403 == answer.status
    assert "; the API server refused to patch StatefulSet/web: " in answer.text
    assert [("pods", "web-0")] == limited_namespace.patches()
    assert {"web": OLD} == images(pod_spec_of(await limited_namespace.read(stateful_set())))
    ((reason, message),) = await limited_namespace.saffire_events(await limited_namespace.read(stateful_set()))
    assert "FailoverRefused" == reason
    assert 'cannot patch resource "statefulsets"' in message
    ((reason, message),) = await limited_namespace.saffire_events(failing)
    assert "Failover" == reason
    assert "; its template stays, since the API server refused to patch it: " in message
    assert 1 == len((await limited_namespace.status())["switches"])


@asynccontextmanager
async def unreachable_webhook(namespace: NamespaceFixture) -> AsyncIterator[str]:
    """Have a webhook that nobody serves decide about changes of Deployments, soon after the context begins."""
    updates = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"]}
    webhook = {
        "name": "release.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": [updates],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    configuration = {"kind": "ValidatingWebhookConfiguration", "metadata": {"name": namespace.name}}
    made = await namespace.api.apply({"apiVersion": POLICIES, **configuration, "webhooks": [webhook]})
    yield f'failed calling webhook "{webhook["name"]}"'
    await namespace.api.delete(await namespace.api.path(made))


async def test_if_a_webhook_cannot_be_called_the_stuck_pod_is_freed_all_the_same(namespace: NamespaceFixture) -> None:
    """The webhook's own pod may wait for the same registry. The workload's Event says which webhook it is."""
    await namespace.source()
    failing, event = await namespace.fail(deployment())
    live = await namespace.read(deployment())
    async with unreachable_webhook(namespace) as complaint:
        path = await namespace.api.path(live)
        await until(lambda: _is_denied(namespace.api, path, complaint))
        assert 403 == (await namespace.post(event)).status
    assert [("pods", failing["metadata"]["name"])] == namespace.patches()
    ((reason, message),) = await namespace.saffire_events(live)
    assert "FailoverRefused" == reason
    assert complaint in message
    await until(lambda: _runs(namespace, failing))


async def test_patches_that_were_denied_are_not_tried_again_at_once(
    cluster: ControlPlane, namespace: NamespaceFixture
) -> None:
    """If template and pod are denied, the next Event of the pod sends no patch and writes no second Event."""
    await namespace.source()
    async with policed(cluster, namespace, "pods"):
        failing, *_ = await namespace.failing()
        event = await namespace.event(failing)
        assert 403 == (await namespace.post(event)).status
        assert [] == namespace.patches()
        assert "switches" not in await namespace.status()
        namespace.mark()
        answer = await namespace.post(event)
    assert (200, True) == (
        answer.status,
        answer.text.startswith(f"left web with {OLD}: PatchDenied: Deployment/web less than a minute ago: "),
    )
    assert DENIAL in answer.text
    assert [] == [call for call in namespace.writes_but_status() if call.verb == "patch"]
    for refused in (deployment(), failing):
        ((reason, _),) = await namespace.saffire_events(await namespace.read(refused))
        assert "FailoverRefused" == reason


async def test_a_rollout_without_room_for_one_pod_more_has_its_stuck_pod_freed(namespace: NamespaceFixture) -> None:
    """A quota lets the template move and no new pod start: the next sweep moves the old pod, and reports the quota."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "one"}, "spec": {"hard": {"pods": "1"}}}
    await namespace.apply(quota)
    await until(lambda: _is_counted(namespace, quota))
    await namespace.source()
    failing, event = await namespace.fail(deployment())
    await namespace.post(event)
    assert [("deployments", "web")] == namespace.patches()
    await until(lambda: _is_out_of_room(namespace))
    namespace.mark()
    await namespace.sweep()
    assert [("pods", failing["metadata"]["name"])] == namespace.patches()
    assert {"web": NEW} == images((await namespace.read(failing))["spec"])
    ((reason, message),) = await namespace.saffire_events(failing)
    assert "Failover" == reason
    assert "Deployment/web cannot make new pods: " in message
    assert "exceeded quota: one, requested: pods=1, used: pods=1, limited: pods=1" in message
    assert "exceeded quota: one" in (await namespace.status())["switches"][-1]["note"]
    await until(lambda: _runs(namespace, failing))


async def _is_counted(namespace: NamespaceFixture, quota: Manifest) -> bool:
    return "used" in (await namespace.read(quota)).get("status", {})


async def _is_out_of_room(namespace: NamespaceFixture) -> bool:
    conditions = (await namespace.read(deployment()))["status"].get("conditions", ())
    return ("ReplicaFailure", "True") in {(condition["type"], condition["status"]) for condition in conditions}


async def _runs(namespace: NamespaceFixture, pod: Manifest) -> bool:
    return all("running" in status["state"] for status in statuses(await namespace.read(pod)).values())


async def test_an_api_server_that_hangs_is_answered_with_503_until_it_is_back(spare_cluster: SpareCluster) -> None:
    """While the API server does not answer, the event source gets 503 and tries again; later the Event is acted on."""
    async with spare_cluster.namespace() as namespace:
        await namespace.source()
        _, event = await namespace.fail(deployment())
        with stopped(spare_cluster.plane.pids()["kube-apiserver"]):
            answers = [await namespace.post(event) for _ in range(2)]
        assert [(503, "the API server did not answer: TimeoutError")] * 2 == [(a.status, a.text) for a in answers]
        assert 200 == (await namespace.post(event)).status
        assert [("deployments", "web")] == namespace.patches()
