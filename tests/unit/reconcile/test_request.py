"""Work items: what two of one namespace come to when they are done together."""

import pytest

from saffire.reconcile.request import Hint, Order


def failed(number: int) -> Hint:
    """Return the request for a failed pod, which differs from others by its number."""
    return Hint(namespace="shop", pod=f"web-{number}", pod_uid=f"uid-{number}", container="web", event=f"web.{number}")


def item(number: int) -> Order:
    """Return the work item of one failed pod."""
    return Order(namespace="shop", hints=(failed(number),))


SWEEP = Order(namespace="shop", wide=True, thorough=True)


@pytest.mark.parametrize(
    ("expected", "first", "second"),
    [
        (item(0), item(0), item(0)),
        (Order(namespace="shop", hints=(failed(0), failed(1))), item(0), item(1)),
        (Order(namespace="shop", hints=(failed(0),), wide=True, thorough=True), item(0), SWEEP),
        (Order(namespace="shop", hints=(failed(0),), wide=True), Order(namespace="shop", wide=True), item(0)),
    ],
)
def test_two_work_items_are_one_that_does_both(expected: Order, first: Order, second: Order) -> None:
    """Every failed pod is kept, once, in the order of arrival; what one of them wants to be done is done."""
    assert expected == first.merged(second)
