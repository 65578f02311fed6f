"""When the API server says no, or nothing at all: the answer, what is told, and what is left as it was."""

from collections.abc import AsyncIterator

import pytest

from playground.api import Api, ApiError, Manifest
from playground.controlplane import ControlPlane
from testkit.api.clusters import USER, Spare, stopped
from testkit.api.namespace_fixture import Stage, statuses, until
from testkit.api.workloads import NEW, OLD, deployment, images, pod_spec_of, stateful_set

DENIAL = "images come from the release train"
POLICIES = "admissionregistration.k8s.io/v1"


@pytest.fixture
async def guarded(cluster: ControlPlane, stage: Stage) -> AsyncIterator[Stage]:
    """Give a stage where an admission policy lets nobody called Saffire change a Deployment."""
    name = stage.namespace
    updates = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"]}
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [updates]},
        "validations": [{"expression": f"request.userInfo.username != '{USER}'", "message": DENIAL}],
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
    path = await cluster.admin.path(await stage.apply(deployment()))
    async with Api(cluster.server, str(cluster.authority), cluster.admin.token, user=USER) as api:
        await until(lambda: _is_denied(api, path))
    yield stage
    for policy in policies:
        await cluster.admin.delete(await cluster.admin.path(policy))


async def _is_denied(api: Api, path: str) -> bool:
    try:
        await api.patch(path, {"metadata": {"labels": {"tried": "yes"}}}, dryRun="All")
    except ApiError as error:
        return DENIAL in str(error)
    return False


async def test_a_patch_that_admission_denies_is_reported(guarded: Stage) -> None:
    """The answer is 403 with the policy's own words; an Event at the workload repeats them, and it stays as it was."""
    await guarded.source()
    failing, *_ = await guarded.failing()
    before = await guarded.read(deployment())
    answer = await guarded.post(await guarded.event(failing))
    after = await guarded.read(deployment())
    assert 403 == answer.status
    assert "Deployment/web refused: " in answer.text
    assert DENIAL in answer.text
    assert before["spec"] == after["spec"]
    assert [] == guarded.patches()
    ((reason, message),) = await guarded.told(after)
    assert "FailoverRefused" == reason
    assert DENIAL in message
    assert "switches" not in await guarded.status()


async def test_a_patch_that_rbac_forbids_is_reported_and_the_others_are_made(limited: Stage) -> None:
    """A template that may not be patched does not keep its stuck pod from being freed; both are told."""
    await limited.source()
    failing, event = await limited.fail(stateful_set())
    answer = await limited.post(event)
    assert 403 == answer.status
    assert "StatefulSet/web refused: " in answer.text
    assert [("pods", "web-0")] == limited.patches()
    assert {"web": OLD} == images(pod_spec_of(await limited.read(stateful_set())))
    ((reason, message),) = await limited.told(await limited.read(stateful_set()))
    assert "FailoverRefused" == reason
    assert 'cannot patch resource "statefulsets"' in message
    ((reason, _),) = await limited.told(failing)
    assert "Failover" == reason
    assert 1 == len((await limited.status())["switches"])


async def test_a_patch_that_was_denied_is_not_tried_again_at_once(guarded: Stage) -> None:
    """The next Event of the pod finds the denial fresh: nothing is sent, and one Event at the workload is enough."""
    await guarded.source()
    failing, *_ = await guarded.failing()
    event = await guarded.event(failing)
    assert 403 == (await guarded.post(event)).status
    guarded.mark()
    answer = await guarded.post(event)
    assert (200, True) == (
        answer.status,
        answer.text.startswith("PatchDenied: Deployment/web less than a minute ago: "),
    )
    assert DENIAL in answer.text
    assert [] == [call for call in guarded.writes_but_status() if call.verb == "patch"]
    assert 1 == len(await guarded.told(await guarded.read(deployment())))


async def test_a_rollout_without_room_for_one_pod_more_has_its_stuck_pod_freed(stage: Stage) -> None:
    """A quota lets the template move and no new pod start: the next sweep frees the old one, and tells of the quota."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "one"}, "spec": {"hard": {"pods": "1"}}}
    await stage.apply(quota)
    await until(lambda: _is_counted(stage, quota))
    await stage.source()
    failing, event = await stage.fail(deployment())
    await stage.post(event)
    assert [("deployments", "web")] == stage.patches()
    await until(lambda: _is_out_of_room(stage))
    stage.mark()
    await stage.sweep()
    assert [("pods", failing["metadata"]["name"])] == stage.patches()
    assert {"web": NEW} == images((await stage.read(failing))["spec"])
    ((reason, message),) = await stage.told(failing)
    assert "Failover" == reason
    assert "Deployment/web cannot make new pods: " in message
    assert "exceeded quota: one, requested: pods=1, used: pods=1, limited: pods=1" in message
    assert "exceeded quota: one" in (await stage.status())["switches"][-1]["note"]
    await until(lambda: _runs(stage, failing))


async def _is_counted(stage: Stage, quota: Manifest) -> bool:
    return "used" in (await stage.read(quota)).get("status", {})


async def _is_out_of_room(stage: Stage) -> bool:
    conditions = (await stage.read(deployment()))["status"].get("conditions", ())
    return ("ReplicaFailure", "True") in {(one["type"], one["status"]) for one in conditions}


async def _runs(stage: Stage, pod: Manifest) -> bool:
    return all("running" in status["state"] for status in statuses(await stage.read(pod)).values())


async def test_an_api_server_that_hangs_is_answered_with_503_until_it_is_back(spare: Spare) -> None:
    """While the API server does not answer, the event source is asked to try again; then the Event is acted on."""
    async with spare.stage() as stage:
        await stage.source()
        _, event = await stage.fail(deployment())
        with stopped(spare.plane.pids()["kube-apiserver"]):
            answers = [await stage.post(event) for _ in range(2)]
        assert [(503, "the API server did not answer: TimeoutError")] * 2 == [(a.status, a.text) for a in answers]
        assert 200 == (await stage.post(event)).status
        assert [("deployments", "web")] == stage.patches()
