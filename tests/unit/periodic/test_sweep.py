"""The sweep's order and its limits; what it finds is tested on a control plane."""

import asyncio
import json

import pytest

from saffire import logs
from saffire.errors import RefusedError, SaffireError, TransientError
from saffire.periodic.sweep import NamespaceSweep
from saffire.policy.plan import Leave, Reason
from saffire.reconcile.request import WorkItem
from saffire.record.outcome import RepairOutcome

NAMES = tuple(f"n-{number}" for number in range(40))
NOTHING = RepairOutcome(nothing_to_do=Leave(reason=Reason.NO_SOURCE))


class Looks:
    """What a sweep orders, and what comes of it."""

    def __init__(self, faults: dict[str, Exception] | None = None) -> None:
        self.orders: list[WorkItem] = []
        self.most_at_once = 0
        self._faults = faults or {}
        self._at_once = 0

    async def look(self, order: WorkItem) -> RepairOutcome:
        """Carry out an order, a turn of the loop later."""
        self.orders.append(order)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(0)
        self._at_once -= 1
        if order.namespace in self._faults:
            raise self._faults[order.namespace]
        return NOTHING

    @property
    def names(self) -> list[str]:
        """The namespaces, in the order in which they were looked at."""
        return [order.namespace for order in self.orders]


async def test_every_namespace_is_looked_at_once_and_thoroughly() -> None:
    """Four at a time, so that a sweep takes neither the API server nor the day."""
    looks = Looks()
    swept = await NamespaceSweep(repair=looks.look, seconds=60).sweep(NAMES)
    assert "swept 40 of 40 namespaces: all is well" == str(swept)
    wanted = [WorkItem(namespace=name, whole_namespace=True, audit=True) for name in sorted(NAMES)]
    assert (wanted, 4) == (sorted(looks.orders, key=lambda order: order.namespace), looks.most_at_once)


async def test_the_order_of_the_first_sweep_is_left_to_chance() -> None:
    """Two instances that have just started begin at different ends."""
    orders = set()
    for _ in range(5):
        looks = Looks()
        await NamespaceSweep(repair=looks.look, seconds=60).sweep(NAMES)
        orders.add(tuple(looks.names))
    assert 1 < len(orders)


async def test_who_is_new_comes_before_all_others() -> None:
    """A namespace that was never looked at has waited longest, and one whose source went and came back has too."""
    looks = Looks()
    sweeper = NamespaceSweep(repair=looks.look, seconds=60)
    await sweeper.sweep(NAMES[:4])
    await sweeper.sweep(NAMES[1:5])
    assert NAMES[4] == looks.names[4]
    await sweeper.sweep(NAMES[:5])
    assert NAMES[0] == looks.names[8]


async def test_without_time_nothing_is_begun() -> None:
    """All is left for the next sweep, and counted."""
    looks = Looks()
    swept = await NamespaceSweep(repair=looks.look, seconds=0).sweep(NAMES)
    assert ("swept 0 of 40 namespaces: all is well; 40 left for the next sweep", []) == (str(swept), looks.names)


@pytest.mark.parametrize("fault", [TransientError("away"), RefusedError("no")], ids=["away", "refused"])
async def test_a_fault_in_one_namespace_stops_no_other(fault: SaffireError) -> None:
    """It is counted, and that namespace has to wait its turn again like all others."""
    looks = Looks(faults=dict.fromkeys(NAMES[:6], fault))
    swept = await NamespaceSweep(repair=looks.look, seconds=60).sweep(NAMES)
    assert "swept 40 of 40 namespaces: 6 failed" == str(swept)
    assert sorted(NAMES) == sorted(looks.names)


async def test_a_bug_that_one_namespace_meets_stops_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody can write an object that keeps the sweep from everybody else; the log has the trace."""
    logs.configure("INFO")
    looks = Looks(faults=dict.fromkeys(NAMES[:6], ZeroDivisionError("a bug")))
    swept = await NamespaceSweep(repair=looks.look, seconds=60).sweep(NAMES)
    assert "swept 40 of 40 namespaces: 6 failed" == str(swept)
    assert sorted(NAMES) == sorted(looks.names)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(NAMES[:6]) == sorted(line["namespace"] for line in lines)
    assert all("ZeroDivisionError" in line["message"] for line in lines)
