"""Pull secrets: who can read what, which templates are given one, and what is told of pods that cannot be."""

import json
from dataclasses import replace
from typing import Any

import pytest

from saffire.kube.kinds import Kinds
from saffire.kube.workload import Owners
from saffire.policy.decide import Gathered, decide
from saffire.policy.history import ANNOTATION, History
from saffire.policy.patch import Patch, render, render_again
from saffire.policy.plan import Failover, Leave, Plan, Reason, Step, Wait
from saffire.policy.pull_secrets import compare_answers
from saffire.policy.verification import Evidence
from saffire.pulls.failure import find_pull_failures
from saffire.registry.availability import Availability, Available, Denied, NotFound, Throttled, Unreachable
from testkit.builders import (
    FAILING,
    NOW,
    SECOND,
    THIRD,
    Object,
    annotated,
    chain,
    moved,
    pod,
    source,
    waiting,
    workload,
)
from testkit.rfc6902 import PatchFailed, patched

TEMPLATE, PODS = Step.TEMPLATE, Step.PODS
THERE = Available(digest="sha256:" + 64 * "1")
LACKING = Evidence(answers={SECOND: THERE, THIRD: NotFound()}, secrets={SECOND: "ghcr-pull"})
"""The first candidate can be read with the pull secret `ghcr-pull` only, and there is no other."""
CHOICE = Evidence(answers={SECOND: THERE, THIRD: THERE}, secrets={SECOND: "ghcr-pull"})
"""The second can be read by everybody."""


def holding(manifest: Object, *names: str, way: tuple[str, ...] = ("spec",)) -> Object:
    """Return a pod, or an object with a pod template at the end of the way, that names these pull secrets."""
    if way:
        return {**manifest, way[0]: holding(manifest[way[0]], *names, way=way[1:])}
    return {**manifest, "imagePullSecrets": [{"name": name} for name in names]}


def decided(owners: Owners, knowledge: Evidence = LACKING, failing: Object | None = None, **spec: Any) -> Plan:
    """Return what is decided about a pod that cannot pull."""
    stuck = failing or pod(waiting())
    scene = Gathered(
        namespace={"metadata": {"name": "shop"}},
        pod=stuck,
        sources=(source(**spec),),
        owners=owners,
        evidence=knowledge,
    )
    return decide(find_pull_failures(stuck)[0], scene, now=NOW)


def failover(*arguments: Any, **keywords: Any) -> Failover:
    """Return the same, where it is a failover."""
    plan = decided(*arguments, **keywords)
    assert isinstance(plan, Failover)
    return plan


def the_patch(owners: Owners, knowledge: Evidence = LACKING, failing: Object | None = None) -> Patch:
    """Return the one patch of a failover that needs one."""
    stuck = failing or pod(waiting())
    ((patch,),) = render([(stuck, [failover(owners, knowledge, stuck)])], now=NOW)
    return patch


def secrets_of(manifest: Object, *template: str) -> list[str]:
    """Return the pull secrets that a template names by now."""
    found: Any = manifest
    for step in template or ("spec", "template"):
        found = found[step]
    return [one["name"] for one in found["spec"].get("imagePullSecrets", ())]


# What a pod can read.


@pytest.mark.parametrize(
    ("expected", "lacks", "alone", "helped"),
    [
        pytest.param(THERE, False, THERE, THERE, id="anybody-can"),
        pytest.param(THERE, True, Denied(), THERE, id="only-with-it"),
        pytest.param(THERE, True, NotFound(), THERE, id="hidden-from-others"),
        pytest.param(THERE, True, Throttled(), THERE, id="others-are-throttled"),
        pytest.param(THERE, False, THERE, Denied(), id="it-is-no-good"),
        pytest.param(Denied(), False, Denied(), Denied(), id="nobody-can"),
        pytest.param(NotFound(), False, Denied(), NotFound(), id="it-tells-that-there-is-none"),
        pytest.param(Denied(), False, NotFound(), Denied(), id="nothing-is-known"),
        pytest.param(Unreachable("x"), False, Throttled(), Unreachable("x"), id="down"),
    ],
)
def test_a_pod_lacks_what_proves_an_alternative(
    expected: Availability, alone: Availability, helped: Availability, *, lacks: bool
) -> None:
    """A registry is asked with and without: the pod lacks a secret if it is shown the image with that alone."""
    secrets = {SECOND: "ghcr-pull"} if lacks else {}
    known = compare_answers({SECOND: alone}, {SECOND: helped}, {SECOND: "ghcr-pull"})
    assert Evidence(answers={SECOND: expected}, secrets=secrets) == known


def test_a_pod_does_not_lack_what_it_has() -> None:
    """Which secret it was does not matter then."""
    assert {} == compare_answers({SECOND: Denied()}, {SECOND: THERE}, {}).secrets


# What is patched for each kind.


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "CronJob", "CloneSet"])
def test_a_template_is_given_the_secret_and_the_pod_is_left_as_it_is(kind: str) -> None:
    """The template alone is patched, at its own path, and nothing else of it changes but the image."""
    template = ("spec", "jobTemplate", "spec", "template") if kind == "CronJob" else ("spec", "template")
    patch = the_patch(chain(kind))
    after = patched(patch.target, patch.operations)
    assert (TEMPLATE, ["ghcr-pull"]) == (patch.step, secrets_of(after, *template))
    before = dict(patch.target)
    expected = json.loads(json.dumps(before).replace(FAILING, SECOND))
    annotations = {ANNOTATION: after["metadata"]["annotations"][ANNOTATION]}
    assert holding(annotated(expected, annotations), "ghcr-pull", way=(*template, "spec")) == after


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("Deployment", None),
        ("DaemonSet", None),
        ("StatefulSet", "delete Pod/web-0"),
        ("ReplicaSet", "delete Pod/web-0"),
        ("CronJob", "delete Job/a-job"),
    ],
)
def test_who_has_to_be_made_anew_is_told(kind: str, told: str | None) -> None:
    """Where no rollout is sure to replace the pod, an operator is told what to delete: a Job keeps its old template."""
    left = failover(chain(kind)).left
    assert (told is None) is (left is None)
    if left and told:
        assert (Reason.UNREADABLE, told) == (left.reason, left.detail.rpartition(": ")[2])


@pytest.mark.parametrize(("kind", "strategy"), [("Pod", "Controller"), ("Job", "Controller"), ("Deployment", "Pods")])
def test_a_pod_alone_is_left_with_the_reason(kind: str, strategy: str) -> None:
    """No live pod can be given a pull secret, and nothing else would be patched: it says what to do."""
    plan = decided(chain(kind), strategy=strategy)
    assert isinstance(plan, Leave)
    assert Reason.UNREADABLE == plan.reason
    assert f"{SECOND}: the pod cannot read it without the pull secret ghcr-pull" in plan.detail
    assert "delete the pod once what it is made from names ghcr-pull in imagePullSecrets" in plan.detail
    assert f"{THIRD}: registry.example:5000 has no such image" in plan.detail


def test_a_stale_pod_is_left_with_the_reason() -> None:
    """Its template has moved on and names the secret by now, and the pod stays as it was made."""
    owners = chain("StatefulSet", web=SECOND)
    assert Reason.UNREADABLE is getattr(decided(owners), "reason", None)


def test_the_order_decides_among_what_templates_can_be_given() -> None:
    """An alternative that every pod can read is not preferred to one before it."""
    plan = failover(chain("StatefulSet"), CHOICE)
    assert (SECOND, (TEMPLATE,)) == (plan.candidate.image, plan.steps)


@pytest.mark.parametrize("kind", ["Pod", "Job"])
@pytest.mark.parametrize("answer", [THERE, Denied()], ids=["proven", "unknown"])
def test_what_a_pod_cannot_be_given_comes_last(kind: str, answer: Availability) -> None:
    """Where no template can be given the secret, an alternative that needs none is taken, if it may be had at all."""
    plan = failover(chain(kind), replace(CHOICE, answers={SECOND: THERE, THIRD: answer}))
    assert (THIRD, (PODS,)) == (plan.candidate.image, plan.steps)
    assert plan.missing_secret is None


def test_what_failed_lately_is_waited_for() -> None:
    """Another alternative rests; that is what the operator is told, with its time."""
    stuck = annotated(pod(waiting()), {ANNOTATION: History((moved(THIRD, FAILING),)).rendered()})
    assert isinstance(decided(Owners(), failing=stuck), Wait)


def test_without_verification_the_image_alone_is_moved() -> None:
    """Nothing is known then: the pod is patched in place, and its template is given nothing."""
    plan = failover(chain("StatefulSet"), verification="Off")
    assert ((TEMPLATE, PODS), None, "") == (plan.steps, plan.missing_secret, plan.note)


# The list of the template.


def test_the_list_is_guarded_as_it_was_read() -> None:
    """It is tested before it is written, so that a secret that somebody else adds meanwhile is not lost."""
    owners = Owners(chain=(holding(workload("StatefulSet"), "own", way=("spec", "template", "spec")),))
    patch = the_patch(owners)
    path = "/spec/template/spec/imagePullSecrets"
    assert [
        {"op": "test", "path": path, "value": [{"name": "own"}]},
        {"op": "add", "path": path, "value": [{"name": "own"}, {"name": "ghcr-pull"}]},
    ] == [one for one in patch.operations if one["path"] == path]
    meanwhile = holding(workload("StatefulSet"), "own", "other", way=("spec", "template", "spec"))
    with pytest.raises(PatchFailed):
        patched(meanwhile, patch.operations)
    again = render_again(patch, meanwhile, now=NOW)
    assert again
    assert ["own", "other", "ghcr-pull"] == secrets_of(patched(meanwhile, again.operations))


def test_a_list_that_did_not_exist_is_made() -> None:
    """Nobody else may have made it meanwhile."""
    patch = the_patch(chain("StatefulSet"))
    with pytest.raises(PatchFailed):
        patched(holding(workload("StatefulSet"), way=("spec", "template", "spec")), patch.operations)


def test_a_secret_is_named_once() -> None:
    """A template that names it already is moved, and its list is none of our business; the history claims nothing."""
    owners = Owners(chain=(holding(workload("StatefulSet"), "ghcr-pull", way=("spec", "template", "spec")),))
    patch = the_patch(owners)
    after = patched(patch.target, patch.operations)
    assert ["ghcr-pull"] == secrets_of(after)
    assert [""] == [entry.secret for entry in History.of(after).entries]
    assert [] == [one for one in patch.operations if "imagePullSecrets" in one["path"]]


def test_what_a_service_account_gave_is_named_too() -> None:
    """Admission gives it only to pods that name none, and the template's will name one from now on."""
    stuck = holding(pod(waiting()), "given")
    patch = the_patch(chain("Deployment"), failing=stuck)
    assert ["given", "ghcr-pull"] == secrets_of(patched(patch.target, patch.operations))


def test_what_a_webhook_gave_is_not_written_into_a_list() -> None:
    """Whoever adds to pods that name some will do so again."""
    named = Owners(chain=(holding(workload("StatefulSet"), "own", way=("spec", "template", "spec")),))
    patch = the_patch(named, failing=holding(pod(waiting()), "own", "injected"))
    assert ["own", "ghcr-pull"] == secrets_of(patched(patch.target, patch.operations))


def test_containers_that_need_two_secrets_get_both() -> None:
    """One patch moves all of an object, and the history says which secret came with which."""
    images = {"web": FAILING, "log": "quay.io/acme/log:1"}
    stuck = pod(waiting(), waiting("log", images["log"]), **images)
    sets = [["quay.io/acme/web", "ghcr.io/acme/web"], ["quay.io/acme/log", "log.example/acme/log"]]
    other = "log.example/acme/log:1"
    knowledge = Evidence(answers={SECOND: THERE, other: THERE}, secrets={SECOND: "ghcr-pull", other: "log-pull"})
    scene = Gathered(
        namespace={"metadata": {"name": "shop"}},
        pod=stuck,
        sources=(source(*sets),),
        owners=chain("Deployment", **images),
        evidence=knowledge,
    )
    plans = [decide(failure, scene, now=NOW) for failure in find_pull_failures(stuck)]
    ((patch,),) = render([(stuck, [plan for plan in plans if isinstance(plan, Failover)])], now=NOW)
    after = patched(patch.target, patch.operations)
    assert ["ghcr-pull", "log-pull"] == secrets_of(after)
    entries = History.of(after).entries
    assert {"web": "ghcr-pull", "log": "log-pull"} == {entry.container: entry.secret for entry in entries}


def test_a_name_that_the_api_server_spells_otherwise_is_guarded_by_version() -> None:
    """A `test` of it would never hold."""
    owners = Owners(chain=(holding(workload("StatefulSet"), "a&b", way=("spec", "template", "spec")),))
    patch = the_patch(owners)
    assert {"op": "test", "path": "/metadata/resourceVersion", "value": "5"} in patch.operations
    assert ["a&b", "ghcr-pull"] == secrets_of(patched(patch.target, patch.operations))


@pytest.mark.parametrize("odd", ["ghcr-pull", ["ghcr-pull"], [{"name": 7}]])
def test_a_foreign_kind_s_list_of_another_form_is_left_alone(odd: Any) -> None:
    """Its schema may let anything pass; the image is moved all the same."""
    widget = workload("Widget")
    widget["spec"]["template"]["spec"]["imagePullSecrets"] = odd
    patch = the_patch(Owners(chain=(widget,), kinds=Kinds().extended("example.com/Widget=spec.template")))
    after = patched(patch.target, patch.operations)
    template = after["spec"]["template"]["spec"]
    assert (SECOND, odd) == (template["containers"][0]["image"], template["imagePullSecrets"])


# The record.


def test_the_record_says_that_a_secret_was_added() -> None:
    """In the note, which status, Event and log carry, beside what else there is to say; and in the history."""
    plan = failover(chain("Deployment"))
    assert "its template names the pull secret ghcr-pull for that" == plan.note
    observed = failover(chain("Deployment"), mode="Observe")
    assert "its template would name the pull secret ghcr-pull for that" == observed.note
    patch = the_patch(chain("Deployment"))
    after = patched(patch.target, patch.operations)
    assert '"secret":"ghcr-pull"' in after["metadata"]["annotations"][ANNOTATION]
    assert ["ghcr-pull"] == [entry.secret for entry in History.of(after).entries]
