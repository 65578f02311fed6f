"""Mutating webhooks, which change what Saffire writes before the admission policy of knative/ sees it."""

import pytest

from playground.cluster.api import Api, Manifest
from playground.cluster.controlplane import ControlPlane
from testkit.api.clusters import hold, make_user, manifest
from testkit.api.mutation import mutating
from testkit.api.namespace_fixture import NamespaceFixture, until
from testkit.api.policy import Answers, Operation, add, edited
from testkit.api.workloads import NEW, deployment, images, pod_spec_of

WEBHOOKS = {
    "stamps the workload": """
        has(object.metadata.annotations)
        ? [JSONPatch{op: "add", path: "/metadata/annotations/example.com~1by", value: request.userInfo.username}]
        : []
        """,
    "labels the workload": """
        has(object.metadata.labels)
        ? [JSONPatch{op: "add", path: "/metadata/labels/team", value: "shop"}]
        : [JSONPatch{op: "add", path: "/metadata/labels", value: {"team": "shop"}}]
        """,
    "hardens the template": """
        [JSONPatch{
          op: "add",
          path: "/spec/template/spec/containers/0/securityContext",
          value: Object.spec.template.spec.containers.securityContext{privileged: false, runAsNonRoot: true}
        }]
        """,
    "pulls always": """
        [JSONPatch{op: "add", path: "/spec/template/spec/containers/0/imagePullPolicy", value: "Always"}]
        """,
}
ADDS_ENVIRONMENT = """
[JSONPatch{
  op: "add",
  path: "/spec/template/spec/containers/0/env",
  value: [{"name": "TEAM", "value": "shop"}]
}]
"""


async def until_changed(namespace: NamespaceFixture, live: Manifest) -> None:
    """Wait until admission changes what somebody else writes to a Deployment, which nobody else changes meanwhile."""
    path = await namespace.api.path(live)

    async def look() -> bool:
        tried = await namespace.api.patch(path, {"metadata": {"annotations": {"tried": "true"}}}, dryRun="All")
        kept = tried["metadata"]["annotations"].keys() - (live["metadata"].get("annotations") or {}).keys() - {"tried"}
        labels = tried["metadata"].get("labels") != live["metadata"].get("labels")
        return bool(kept) or labels or tried["spec"] != live["spec"]

    await until(look)


@pytest.mark.parametrize("webhook", WEBHOOKS)
async def test_a_failover_goes_through_with_what_a_webhook_adds(namespace: NamespaceFixture, webhook: str) -> None:
    """A webhook that was installed after the Deployment changes it in the function's own request, and is let."""
    await namespace.source()
    _, event = await namespace.fail(deployment())
    before = await namespace.read(deployment())
    async with mutating(namespace, WEBHOOKS[webhook], "UPDATE", resource="deployments.apps"):
        await until_changed(namespace, before)
        answer = await namespace.post(event)
        assert 200 == answer.status
        after = await namespace.read(deployment())
    assert {"web": NEW} == images(pod_spec_of(after))


async def test_a_refusal_names_what_a_webhook_adds(namespace: NamespaceFixture) -> None:
    """If a webhook gives pods more than the policy lets pass, the Event on the workload says which field that is."""
    await namespace.source()
    _, event = await namespace.fail(deployment())
    before = await namespace.read(deployment())
    async with mutating(namespace, ADDS_ENVIRONMENT, "UPDATE", resource="deployments.apps"):
        await until_changed(namespace, before)
        answer = await namespace.post(event)
    assert 403 == answer.status
    ((reason, message),) = await namespace.saffire_events(before)
    assert "FailoverRefused" == reason
    assert message.endswith("Saffire may change images; this request also changes container.env")


async def test_a_field_that_is_tolerated_stops_no_failover(namespace: NamespaceFixture, cluster: ControlPlane) -> None:
    """If an administrator puts the field of the refusal into the policy, a webhook may change it, and no other."""
    await namespace.fail(deployment())
    live = await namespace.read(deployment())
    user, _ = await make_user(cluster, "tolerant", manifest("function-clusterrole")["rules"])
    image = add("/spec/template/spec/containers/0/image", NEW)
    async with (
        Api(cluster.server, str(cluster.authority), cluster.admin.token, user=user) as api,
        mutating(namespace, ADDS_ENVIRONMENT, "UPDATE", resource="deployments.apps"),
    ):
        answers = Answers(as_function=api, as_admin=cluster.admin, namespace=namespace.name)
        await until_changed(namespace, live)
        assert "container.env" == await answers.refusal(live, image)
        await hold(cluster, "tolerant", edited(tolerated='["container.env"]'))
        await until(lambda: is_accepted(answers, live, image))
        assert "spec.replicas" == await answers.refusal(live, image, add("/spec/replicas", 5))


async def is_accepted(answers: Answers, live: Manifest, operation: Operation) -> bool:
    """Say whether the API server accepts a patch."""
    return not await answers.refusal(live, operation)
