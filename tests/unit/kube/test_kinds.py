"""Kinds: which kinds run pods, the path of their pod template, and the steps that free their stuck pods."""

from typing import Any

import pytest

from saffire.kube.kinds import InvalidKind, Kind, Kinds
from saffire.policy.plan import Step
from saffire.policy.target import steps
from testkit.builders import Object, pod, workload

TEMPLATE, PODS = Step.TEMPLATE, Step.PODS
KINDS = Kinds()


def deployment(**spec: Any) -> Object:
    """Return a Deployment with these fields in its spec."""
    manifest = workload("Deployment")
    return {**manifest, "spec": {**manifest["spec"], **spec}}


def rolling(**limits: Any) -> Object:
    """Return a Deployment with `strategy: RollingUpdate` and these limits."""
    return deployment(strategy={"type": "RollingUpdate", "rollingUpdate": limits})


@pytest.mark.parametrize(
    ("expected", "manifest"),
    [
        pytest.param([TEMPLATE], deployment(), id="Deployment"),
        pytest.param([TEMPLATE], deployment(paused=False), id="Deployment-not-paused"),
        pytest.param([TEMPLATE], deployment(strategy={"type": "RollingUpdate"}), id="Deployment-default-surge"),
        pytest.param([TEMPLATE], rolling(maxSurge=1, maxUnavailable=0), id="Deployment-surge-1"),
        pytest.param([TEMPLATE], rolling(maxSurge="1%"), id="Deployment-surge-1%"),
        pytest.param([TEMPLATE], rolling(maxUnavailable=1), id="Deployment-surge-left-out"),
        pytest.param([PODS, TEMPLATE], rolling(maxSurge=0), id="Deployment-surge-0"),
        pytest.param([PODS, TEMPLATE], rolling(maxSurge="0%"), id="Deployment-surge-0%"),
        pytest.param([PODS, TEMPLATE], deployment(strategy={"type": "Recreate"}), id="Deployment-recreate"),
        pytest.param([PODS, TEMPLATE], deployment(paused=True), id="Deployment-paused"),
        pytest.param([TEMPLATE, PODS], workload("ReplicaSet"), id="ReplicaSet"),
        pytest.param([TEMPLATE, PODS], workload("ReplicationController"), id="ReplicationController"),
        pytest.param([TEMPLATE, PODS], workload("StatefulSet"), id="StatefulSet"),
        pytest.param([PODS, TEMPLATE], workload("DaemonSet"), id="DaemonSet"),
        pytest.param([TEMPLATE, PODS], workload("CronJob"), id="CronJob"),
        pytest.param([PODS], workload("Job"), id="Job"),
        pytest.param([PODS], pod(), id="Pod"),
        pytest.param([TEMPLATE, PODS], workload("Rollout"), id="Rollout"),
        pytest.param([TEMPLATE, PODS], workload("CloneSet"), id="CloneSet"),
        pytest.param(
            [TEMPLATE, PODS],
            {**workload("DaemonSet"), "apiVersion": "apps.kruise.io/v1beta1"},
            id="DaemonSet-of-OpenKruise",
        ),
        pytest.param([TEMPLATE, PODS], workload("Service"), id="Service-of-Knative"),
        pytest.param([PODS], workload("Revision"), id="Revision-of-Knative"),
        pytest.param([PODS], workload("Widget"), id="unknown-kind"),
    ],
)
def test_each_kind_has_its_steps(expected: list[Step], manifest: Object) -> None:
    """The steps free the stuck pods, and their order frees them soonest."""
    assert expected == list(steps(manifest, KINDS.of(manifest)))


@pytest.mark.parametrize("kind", KINDS.supported, ids=[f"{kind.group}/{kind.name}" for kind in KINDS.supported])
def test_a_kind_is_supported_in_any_version(kind: Kind) -> None:
    """All versions of a group are read alike. A kind of the same name in another group is another kind."""
    assert kind is KINDS.named(f"{kind.group}/v0" if kind.group else "v0", kind.name)
    assert KINDS.named("stranger.example/v1", kind.name) is None


def test_the_kind_of_an_object_is_read_from_its_manifest() -> None:
    """`apiVersion` and `kind` name it; an object without them has no kind."""
    kind = KINDS.of(workload("StatefulSet"))
    assert ("apps", "statefulsets") == ((kind.group, kind.plural) if kind else None)
    assert KINDS.of({}) is None
    assert KINDS.of({"apiVersion": "apps/v1", "kind": "Pod"}) is None


# Kinds that operators add


def test_operators_may_add_kinds() -> None:
    """Each is found by its group and name, and has its pod template at the path of the setting."""
    kinds = KINDS.extended("example.com/Widget=spec.template, db.example.com/Postgres = spec.podTemplate ,")
    widget, postgres = kinds.named("example.com/v1", "Widget"), kinds.named("db.example.com/v1beta1", "Postgres")
    assert (("spec", "template"), ("spec", "podTemplate")) == (
        widget and widget.template,
        postgres and postgres.template,
    )
    assert [True, True] == [kind.is_foreign for kind in (widget, postgres) if kind]
    assert (TEMPLATE, PODS) == steps(workload("Widget"), widget)
    assert set(KINDS.supported) < set(kinds.supported)


def test_nothing_added_changes_nothing() -> None:
    """An empty setting adds no kinds."""
    assert KINDS == KINDS.extended("") == KINDS.extended(" , ")


def test_a_foreign_kind_may_get_another_path() -> None:
    """A fork of a supported kind may have its pod template elsewhere."""
    kind = KINDS.extended("argoproj.io/Rollout=spec.workload").named("argoproj.io/v1", "Rollout")
    assert ("spec", "workload") == (kind.template if kind else None)


@pytest.mark.parametrize(
    ("expected", "setting"),
    [
        pytest.param("'Widget': wants group/Kind=path.of.template", "Widget=spec.template", id="no-group"),
        pytest.param("'a/b/Widget': wants", "a/b/Widget=spec.template", id="two-groups"),
        pytest.param("'Example.com/Widget': wants", "Example.com/Widget=spec", id="group-in-capitals"),
        pytest.param("'example.com/widget': wants", "example.com/widget=spec", id="not-a-kind"),
        pytest.param("wants group/Kind", "example.com/W\x00=spec", id="control-character"),
        pytest.param("example.com/Widget: wants the path", "example.com/Widget", id="no-path"),
        pytest.param("example.com/Widget: wants the path", "example.com/Widget=spec..template", id="empty-field"),
        pytest.param("example.com/Widget: wants the path", "example.com/Widget=spec/template", id="not-dotted"),
        pytest.param("example.com/Widget: wants the path", "example.com/Widget=" + 8 * "a." + "a", id="too-deep"),
        pytest.param("names a kind twice", "example.com/Widget=a,example.com/Widget=b", id="twice"),
        pytest.param("Kubernetes's own kinds", "apps/Deployment=spec", id="Kubernetes's-own"),
        pytest.param("at most 64", ",".join(f"example.com/W{number}=spec" for number in range(65)), id="too-many"),
    ],
)
def test_a_kind_that_makes_no_sense_is_refused(expected: str, setting: str) -> None:
    """The message names the form that the setting needs."""
    with pytest.raises(InvalidKind, match=expected):
        KINDS.extended(setting)
