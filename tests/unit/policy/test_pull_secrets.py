"""Pull secrets: which of them a pod lacks, which templates get one, and what is said about pods that cannot."""

import json
from dataclasses import replace
from typing import Any

import pytest

from saffire.kube.kinds import Kinds
from saffire.kube.workload import Owners
from saffire.policy.decide import Gathered
from saffire.policy.history import ANNOTATION, History
from saffire.policy.patch import Patch, render, render_again
from saffire.policy.plan import Failover, Leave, Plan, Reason, Step, Wait
from saffire.policy.pull_secrets import compare_answers
from saffire.policy.reach import FaultEvidence
from saffire.policy.verification import Evidence
from saffire.pulls.cause import Cause
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
from testkit.decisions import decide
from testkit.rfc6902 import PatchFailed, patched

TEMPLATE, PODS = Step.TEMPLATE, Step.PODS
THERE = Available(digest="sha256:" + 64 * "1")
LACKING = Evidence(answers={SECOND: THERE, THIRD: NotFound()}, secrets={SECOND: "ghcr-pull"})
"""The first candidate can be read with the pull secret `ghcr-pull` only, and there is no other."""
CHOICE = Evidence(answers={SECOND: THERE, THIRD: THERE}, secrets={SECOND: "ghcr-pull"})
"""The second candidate can be read without a pull secret."""
BROKEN = Unreachable("it answered 503", is_silent=True, is_server_error=True)
"""What the registry of the failing image answers: its outage is proven."""


def holding(manifest: Object, *names: str, path: tuple[str, ...] = ("spec",)) -> Object:
    """Return the object with these pull secrets in the pod spec at `path`."""
    if path:
        return {**manifest, path[0]: holding(manifest[path[0]], *names, path=path[1:])}
    return {**manifest, "imagePullSecrets": [{"name": name} for name in names]}


def decided(owners: Owners, evidence: Evidence = LACKING, failing: Object | None = None, **spec: Any) -> Plan:
    """Return the plan for a pod that cannot pull."""
    stuck = failing or pod(waiting())
    failure = find_pull_failures(stuck)[0]
    gathered = Gathered(
        namespace={"metadata": {"name": "shop"}},
        pod=stuck,
        sources=(source(**spec),),
        owners=owners,
        evidence=evidence,
        faults={failure: FaultEvidence(answer=BROKEN)},
    )
    return decide(failure, gathered, now=NOW)


def failover(*arguments: Any, **keywords: Any) -> Failover:
    """Return the plan, which must be a failover."""
    plan = decided(*arguments, **keywords)
    assert isinstance(plan, Failover)
    return plan


def the_patch(owners: Owners, evidence: Evidence = LACKING, failing: Object | None = None) -> Patch:
    """Return the patch of a failover, which must be one."""
    stuck = failing or pod(waiting())
    ((patch,),) = render([(stuck, [failover(owners, evidence, stuck)])], now=NOW)
    return patch


def secrets_of(manifest: Object, *template: str) -> list[str]:
    """Return the names of the pull secrets of a template."""
    value: Any = manifest
    for key in template or ("spec", "template"):
        value = value[key]
    return [secret["name"] for secret in value["spec"].get("imagePullSecrets", ())]


# What a pod can read.


@pytest.mark.parametrize(
    ("expected", "lacks", "without_secret", "with_secret"),
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
def test_a_pod_lacks_the_secret_that_alone_shows_an_alternative(
    expected: Availability, without_secret: Availability, with_secret: Availability, *, lacks: bool
) -> None:
    """A registry is asked with and without the secret: the pod lacks it if only the first shows the image."""
    secrets = {SECOND: "ghcr-pull"} if lacks else {}
    evidence = compare_answers({SECOND: without_secret}, {SECOND: with_secret}, {SECOND: "ghcr-pull"})
    assert Evidence(answers={SECOND: expected}, secrets=secrets) == evidence


def test_a_pod_does_not_lack_a_secret_that_it_has() -> None:
    """If the pod has the source's secret, `secrets` does not name it."""
    assert {} == compare_answers({SECOND: Denied()}, {SECOND: THERE}, {}).secrets


# What is patched for each kind.


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "CronJob", "CloneSet"])
def test_the_secret_is_added_to_the_template_and_the_pod_stays(kind: str) -> None:
    """Only the template is patched, at its own path, and only its image and its pull secrets change."""
    template = ("spec", "jobTemplate", "spec", "template") if kind == "CronJob" else ("spec", "template")
    patch = the_patch(chain(kind))
    after = patched(patch.target, patch.operations)
    assert (TEMPLATE, ["ghcr-pull"]) == (patch.step, secrets_of(after, *template))
    before = dict(patch.target)
    expected = json.loads(json.dumps(before).replace(FAILING, SECOND))
    annotations = {ANNOTATION: after["metadata"]["annotations"][ANNOTATION]}
    assert holding(annotated(expected, annotations), "ghcr-pull", path=(*template, "spec")) == after


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        ("Deployment", None),
        ("DaemonSet", None),
        ("StatefulSet", "delete Pod/web-0"),
        ("ReplicaSet", "delete Pod/web-0"),
        ("CronJob", "delete Job/a-job"),
    ],
)
def test_a_pod_that_no_rollout_replaces_has_to_be_deleted(kind: str, advice: str | None) -> None:
    """If it is not certain that a rollout replaces the pod, the plan says what to delete; a Job keeps its template."""
    leave = failover(chain(kind)).pod_leave
    assert (advice is None) is (leave is None)
    if leave and advice:
        assert (Reason.UNREADABLE, advice) == (leave.reason, leave.detail.rpartition(": ")[2])


@pytest.mark.parametrize(("kind", "strategy"), [("Pod", "Controller"), ("Job", "Controller"), ("Deployment", "Pods")])
def test_a_pod_that_no_template_can_help_is_left(kind: str, strategy: str) -> None:
    """No live pod can be given a pull secret, and no template is patched: the detail says what to do."""
    plan = decided(chain(kind), strategy=strategy)
    assert isinstance(plan, Leave)
    assert Reason.UNREADABLE == plan.reason
    assert f"{SECOND}: the pod cannot read it without the pull secret ghcr-pull" in plan.detail
    assert "delete the pod once what it is made from names ghcr-pull in imagePullSecrets" in plan.detail
    assert f"{THIRD}: registry.example:5000 has no such image" in plan.detail


def test_a_stale_pod_is_left() -> None:
    """Its template has changed and names the secret by now, but the live pod cannot be given it."""
    owners = chain("StatefulSet", web=SECOND)
    assert Reason.UNREADABLE is getattr(decided(owners), "reason", None)


def test_the_order_decides_if_the_template_can_be_given_the_secret() -> None:
    """A later alternative that every pod can read is not preferred."""
    plan = failover(chain("StatefulSet"), CHOICE)
    assert (SECOND, (TEMPLATE,)) == (plan.candidate.image, plan.steps)


@pytest.mark.parametrize("kind", ["Pod", "Job"])
@pytest.mark.parametrize("answer", [THERE, Denied()], ids=["proven", "unknown"])
def test_an_alternative_that_no_pod_can_read_is_not_taken(kind: str, answer: Availability) -> None:
    """If no template can be given the secret, an alternative that needs none is taken, proven or unknown."""
    plan = failover(chain(kind), replace(CHOICE, answers={SECOND: THERE, THIRD: answer}))
    assert (THIRD, (PODS,)) == (plan.candidate.image, plan.steps)
    assert plan.missing_secret is None


@pytest.mark.parametrize(
    ("expected", "answer", "down"),
    [
        pytest.param(THIRD, THERE, frozenset(), id="proven"),
        pytest.param(THIRD, Denied(), frozenset(), id="unknown"),
        pytest.param(None, BROKEN, frozenset({THIRD}), id="down"),
        pytest.param(None, NotFound(), frozenset(), id="absent"),
    ],
)
def test_if_the_template_stays_the_pod_moves_to_what_it_can_read(
    expected: str | None, answer: Availability, down: frozenset[str]
) -> None:
    """A fault of one node moves its stuck pod alone, which no pull secret can be given to."""
    stuck = pod(waiting())
    failure = replace(find_pull_failures(stuck)[0], cause=Cause.REFUSED)
    gathered = Gathered(
        namespace={"metadata": {"name": "shop"}},
        pod=stuck,
        sources=(source(),),
        owners=Owners(chain=tuple({**owner, "status": {"readyReplicas": 3}} for owner in chain("Deployment").chain)),
        evidence=replace(CHOICE, answers={SECOND: THERE, THIRD: answer}, down=down),
        faults={failure: FaultEvidence(answer=THERE, tries=2)},
    )
    plan = decide(failure, gathered, now=NOW)
    if expected:
        assert isinstance(plan, Failover)
        assert (expected, (PODS,), None) == (plan.candidate.image, plan.steps, plan.missing_secret)
        assert "its template stays, since quay.io answers Saffire, so the fault is of the node, or passes" == plan.note
    else:
        assert isinstance(plan, Leave)
        assert plan.reason is Reason.UNREADABLE


@pytest.mark.parametrize(
    ("expected", "answer"), [pytest.param(THIRD, THERE, id="another"), pytest.param(None, NotFound(), id="none")]
)
def test_the_template_of_a_parallel_stateful_set_waits_with_its_secret_too(
    expected: str | None, answer: Availability
) -> None:
    """Its rollout ends the highest ordinal first, which may be ready: no secret is worth that."""
    spec = {"podManagementPolicy": "Parallel", "replicas": 3}
    status = {"readyReplicas": 2}
    owners = Owners(
        chain=tuple(
            {**owner, "spec": {**owner["spec"], **spec}, "status": status} for owner in chain("StatefulSet").chain
        )
    )
    plan = decided(owners, replace(CHOICE, answers={SECOND: THERE, THIRD: answer}))
    if expected:
        assert isinstance(plan, Failover)
        assert (expected, (PODS,), None) == (plan.candidate.image, plan.steps, plan.missing_secret)
    else:
        assert isinstance(plan, Leave)
        assert Reason.UNREADABLE is plan.reason


def test_an_alternative_that_failed_lately_is_waited_for() -> None:
    """The plan is to wait until the cooldown of the other alternative ends."""
    stuck = annotated(pod(waiting()), {ANNOTATION: History((moved(THIRD, FAILING),)).rendered()})
    assert isinstance(decided(Owners(), failing=stuck), Wait)


def test_without_verification_only_the_image_is_moved() -> None:
    """No registry was asked: the pod is patched in place, and no secret is added to its template."""
    plan = failover(chain("StatefulSet"), verification="Off")
    assert ((TEMPLATE, PODS), None, "") == (plan.steps, plan.missing_secret, plan.note)


# The list of the template.


def test_the_list_is_guarded_as_it_was_read() -> None:
    """The patch tests the list before it writes it, so a secret that somebody else adds meanwhile is not lost."""
    owners = Owners(chain=(holding(workload("StatefulSet"), "own", path=("spec", "template", "spec")),))
    patch = the_patch(owners)
    path = "/spec/template/spec/imagePullSecrets"
    assert [
        {"op": "test", "path": path, "value": [{"name": "own"}]},
        {"op": "add", "path": path, "value": [{"name": "own"}, {"name": "ghcr-pull"}]},
    ] == [operation for operation in patch.operations if operation["path"] == path]
    meanwhile = holding(workload("StatefulSet"), "own", "other", path=("spec", "template", "spec"))
    with pytest.raises(PatchFailed):
        patched(meanwhile, patch.operations)
    again = render_again(patch, meanwhile, now=NOW)
    assert again
    assert ["own", "other", "ghcr-pull"] == secrets_of(patched(meanwhile, again.operations))


def test_a_list_that_did_not_exist_is_created() -> None:
    """If somebody else created it meanwhile, the patch fails."""
    patch = the_patch(chain("StatefulSet"))
    with pytest.raises(PatchFailed):
        patched(holding(workload("StatefulSet"), path=("spec", "template", "spec")), patch.operations)


def test_a_secret_is_named_once() -> None:
    """If the template names it already, only the image moves, and the history names no secret."""
    owners = Owners(chain=(holding(workload("StatefulSet"), "ghcr-pull", path=("spec", "template", "spec")),))
    patch = the_patch(owners)
    after = patched(patch.target, patch.operations)
    assert ["ghcr-pull"] == secrets_of(after)
    assert [""] == [entry.secret for entry in History.of(after).entries]
    assert [] == [operation for operation in patch.operations if "imagePullSecrets" in operation["path"]]


def test_the_secrets_of_a_service_account_are_added_too() -> None:
    """Admission gives them only to pods that name no secret, and the template's pods name one from now on."""
    stuck = holding(pod(waiting()), "given")
    patch = the_patch(chain("Deployment"), failing=stuck)
    assert ["given", "ghcr-pull"] == secrets_of(patched(patch.target, patch.operations))


def test_the_secret_of_a_webhook_is_not_added() -> None:
    """If the template names secrets already, the webhook adds its own to new pods as before."""
    named = Owners(chain=(holding(workload("StatefulSet"), "own", path=("spec", "template", "spec")),))
    patch = the_patch(named, failing=holding(pod(waiting()), "own", "injected"))
    assert ["own", "ghcr-pull"] == secrets_of(patched(patch.target, patch.operations))


def test_containers_that_need_two_secrets_get_both() -> None:
    """One patch moves both containers, and the history names the secret of each."""
    images = {"web": FAILING, "log": "quay.io/acme/log:1"}
    stuck = pod(waiting(), waiting("log", images["log"]), **images)
    sets = [["quay.io/acme/web", "ghcr.io/acme/web"], ["quay.io/acme/log", "log.example/acme/log"]]
    log_alternative = "log.example/acme/log:1"
    evidence = Evidence(
        answers={SECOND: THERE, log_alternative: THERE}, secrets={SECOND: "ghcr-pull", log_alternative: "log-pull"}
    )
    gathered = Gathered(
        namespace={"metadata": {"name": "shop"}},
        pod=stuck,
        sources=(source(*sets),),
        owners=chain("Deployment", **images),
        evidence=evidence,
    )
    plans = [decide(failure, gathered, now=NOW) for failure in find_pull_failures(stuck)]
    ((patch,),) = render([(stuck, [plan for plan in plans if isinstance(plan, Failover)])], now=NOW)
    after = patched(patch.target, patch.operations)
    assert ["ghcr-pull", "log-pull"] == secrets_of(after)
    entries = History.of(after).entries
    assert {"web": "ghcr-pull", "log": "log-pull"} == {entry.container: entry.secret for entry in entries}


def test_a_name_that_go_escapes_otherwise_is_guarded_by_the_resource_version() -> None:
    """A `test` of such a name would always fail."""
    owners = Owners(chain=(holding(workload("StatefulSet"), "a&b", path=("spec", "template", "spec")),))
    patch = the_patch(owners)
    assert {"op": "test", "path": "/metadata/resourceVersion", "value": "5"} in patch.operations
    assert ["a&b", "ghcr-pull"] == secrets_of(patched(patch.target, patch.operations))


@pytest.mark.parametrize("odd", ["ghcr-pull", ["ghcr-pull"], [{"name": 7}]])
def test_a_foreign_kind_s_list_of_another_form_is_left_alone(odd: Any) -> None:
    """The schema of a foreign kind may let anything pass; the image is still moved."""
    widget = workload("Widget")
    widget["spec"]["template"]["spec"]["imagePullSecrets"] = odd
    patch = the_patch(Owners(chain=(widget,), kinds=Kinds().extended("example.com/Widget=spec.template")))
    after = patched(patch.target, patch.operations)
    template = after["spec"]["template"]["spec"]
    assert (SECOND, odd) == (template["containers"][0]["image"], template["imagePullSecrets"])


# The record.


def test_the_record_says_that_a_secret_was_added() -> None:
    """The note, which is part of status, Event and log, names the secret; so does the history."""
    plan = failover(chain("Deployment"))
    assert "its template names the pull secret ghcr-pull for that" == plan.note
    observed = failover(chain("Deployment"), mode="Observe")
    assert "its template would name the pull secret ghcr-pull for that" == observed.note
    patch = the_patch(chain("Deployment"))
    after = patched(patch.target, patch.operations)
    assert '"secret":"ghcr-pull"' in after["metadata"]["annotations"][ANNOTATION]
    assert ["ghcr-pull"] == [entry.secret for entry in History.of(after).entries]
