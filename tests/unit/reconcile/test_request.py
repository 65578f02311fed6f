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


MANY = WorkItem(namespace="shop", whole_namespace=True, many_failed=True)
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


def test_a_work_item_names_few_pods() -> None:
    """If more than 64 pods fail, their names are dropped: every pod is read, and the Events, also in a sweep."""
    full = WorkItem(namespace="shop")
    for number in range(64):
        full = full.merged(item(number))
    assert (64, False) == (len(full.failed_pods), full.whole_namespace)
    assert full == full.merged(item(63))
    assert MANY == full.merged(item(64)) == item(64).merged(full) == MANY.merged(full) == full.merged(MANY)
    swept = full.merged(SWEEP).merged(item(64))
    assert (WorkItem(namespace="shop", whole_namespace=True, audit=True, many_failed=True), True) == (
        swept,
        swept.reads_events,
    )
    assert not SWEEP.reads_events
