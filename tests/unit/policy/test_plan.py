"""Plans: which images a failover writes in each step, and the steps that free the stuck pods of each kind."""

from typing import Any

import pytest

from saffire.kube.kinds import Kinds
from saffire.kube.workload import ImageField
from saffire.policy.plan import Failover, Step, steps
from saffire.pulls.failure import PullFailure, Section
from saffire.registry.reference import Reference
from saffire.sources.candidates import Candidate
from testkit.builders import FAILING, SECOND, Object, pod, source, workload

TEMPLATE, PODS = Step.TEMPLATE, Step.PODS
KINDS = Kinds()
DIGEST = "sha256:" + 64 * "a"


def failover(image: str, template_image: str | None) -> Failover:
    """Return a failover from `image`; the template is patched if it names a `template_image`."""
    candidate = SECOND.partition(":")[0] + Reference.parse(image).suffix
    image_field = None
    if template_image:
        image_field = ImageField(
            template=("spec", "template"), section="containers", index=0, name="web", image=template_image
        )
    return Failover(
        failure=PullFailure(section=Section.CONTAINERS, container="web", image=image, reason="ErrImagePull"),
        candidate=Candidate(image=candidate, reference=Reference.parse(candidate), source=source()),
        workload=workload("Deployment"),
        steps=(Step.TEMPLATE, Step.PODS),
        image_field=image_field,
    )


REPOSITORY = FAILING.partition(":")[0]
RESOLVED = f"{REPOSITORY}@{DIGEST}"


@pytest.mark.parametrize(
    ("expected", "step", "image", "template_image"),
    [
        pytest.param((FAILING, SECOND), Step.TEMPLATE, FAILING, FAILING, id="same-spelling"),
        pytest.param((FAILING, SECOND), Step.PODS, FAILING, FAILING, id="pod"),
        pytest.param((FAILING, SECOND), Step.TEMPLATE, RESOLVED, FAILING, id="template-keeps-its-tag"),
        pytest.param(
            (RESOLVED, f"{SECOND.partition(':')[0]}@{DIGEST}"), Step.PODS, RESOLVED, FAILING, id="pod-keeps-its-digest"
        ),
        pytest.param((FAILING, SECOND), Step.TEMPLATE, FAILING, None, id="no-template"),
    ],
)
def test_a_failover_keeps_the_spelling_of_the_object_that_it_patches(
    expected: tuple[str, str], step: Step, image: str, template_image: str | None
) -> None:
    """Knative resolves a template's tag to a digest in the pod: the template keeps its tag, the pod its digest."""
    assert expected == failover(image, template_image).images(step)


# The steps of a kind


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


def test_a_kind_that_operators_add_has_the_steps_of_a_foreign_kind() -> None:
    """Its controller is not known here: it may hold back old pods, or new ones."""
    widget = Kinds().extended("example.com/Widget=spec.template").named("example.com/v1", "Widget")
    assert (TEMPLATE, PODS) == steps(workload("Widget"), widget)
