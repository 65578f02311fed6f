"""Work items: what two of one namespace come to when they are done together."""

import pytest

from saffire.reconcile.request import PodFailed, WorkItem


def failed(number: int) -> PodFailed:
    """Return the request for a failed pod, which differs from others by its number."""
    return PodFailed(
        namespace="shop", pod=f"web-{number}", pod_uid=f"uid-{number}", container="web", event=f"web.{number}"
    )


def item(number: int) -> WorkItem:
    """Return the work item of one failed pod."""
    return WorkItem(namespace="shop", failed_pods=(failed(number),))


SWEEP = WorkItem(namespace="shop", whole_namespace=True, audit=True)


@pytest.mark.parametrize(
    ("expected", "first", "second"),
    [
        (item(0), item(0), item(0)),
        (WorkItem(namespace="shop", failed_pods=(failed(0), failed(1))), item(0), item(1)),
        (WorkItem(namespace="shop", failed_pods=(failed(0),), whole_namespace=True, audit=True), item(0), SWEEP),
        (
            WorkItem(namespace="shop", failed_pods=(failed(0),), whole_namespace=True),
            WorkItem(namespace="shop", whole_namespace=True),
            item(0),
        ),
    ],
)
def test_two_work_items_are_one_that_does_both(expected: WorkItem, first: WorkItem, second: WorkItem) -> None:
    """Every failed pod is kept, once, in the order of arrival; what one of them wants to be done is done."""
    assert expected == first.merged(second)
