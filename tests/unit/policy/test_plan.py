"""Plans: which images a failover writes, in the spelling of the object that each step patches."""

import pytest

from saffire.kube.workload import ImageField
from saffire.policy.plan import Failover, Step
from saffire.pulls.failure import PullFailure, Section
from saffire.registry.reference import Reference
from saffire.sources.candidates import Candidate
from testkit.builders import FAILING, SECOND, source, workload

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
