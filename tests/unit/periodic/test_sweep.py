"""The sweep's order and its limits; what its repairs do is tested on a control plane."""

import asyncio
import json

import pytest

from saffire import logs
from saffire.errors import RefusedError, SaffireError, TransientError
from saffire.kube.workload import OwnerReference
from saffire.periodic import sweep
from saffire.periodic.sweep import NamespaceSweeper
from saffire.policy.plan import Leave, Reason
from saffire.reconcile.request import WorkItem
from saffire.record.left import LeftContainer, LeftInNamespace
from saffire.record.outcome import RepairOutcome
from testkit.builders import NOW
from testkit.check_registry import eventually

NAMES = tuple(f"n-{number}" for number in range(40))
NOTHING = RepairOutcome(nothing_to_do=Leave(reason=Reason.NO_SOURCE))


class Repairs:
    """The repairs that a sweep asks for, and their outcomes."""

    def __init__(self, faults: dict[str, Exception] | None = None, slow: tuple[str, ...] = ()) -> None:
        self.items: list[WorkItem] = []
        self.most_at_once = 0
        self.end = asyncio.Event()
        """The repairs of slow namespaces end when it is set."""
        self._faults = faults or {}
        self._slow = frozenset(slow)
        self._at_once = 0

    async def repair(self, item: WorkItem) -> RepairOutcome:
        """Return the outcome of a repair, one turn of the loop later; that of a slow namespace at the end."""
        self.items.append(item)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(0)
        if item.namespace in self._slow:
            await self.end.wait()
        self._at_once -= 1
        if item.namespace in self._faults:
            raise self._faults[item.namespace]
        return NOTHING

    @property
    def names(self) -> list[str]:
        """The namespaces, in the order in which they were repaired."""
        return [item.namespace for item in self.items]


async def test_every_namespace_is_repaired_and_audited_once() -> None:
    """Four are repaired at a time: that is little load for the API server, and the sweep is soon done."""
    repairs = Repairs()
    result = await NamespaceSweeper(repair=repairs.repair, seconds=60).sweep(NAMES)
    assert "swept 40 of 40 namespaces: all is well" == str(result)
    expected = [WorkItem(namespace=name, whole_namespace=True, audit=True) for name in sorted(NAMES)]
    assert (expected, 4) == (sorted(repairs.items, key=lambda item: item.namespace), repairs.most_at_once)


async def test_the_order_of_the_first_sweep_is_random() -> None:
    """So two instances that have just started begin with different namespaces."""
    orders = set()
    for _ in range(5):
        repairs = Repairs()
        await NamespaceSweeper(repair=repairs.repair, seconds=60).sweep(NAMES)
        orders.add(tuple(repairs.names))
    assert 1 < len(orders)


async def test_a_new_namespace_comes_before_all_others() -> None:
    """A namespace that was never repaired has waited longest; so has one whose source was deleted and created again."""
    repairs = Repairs()
    sweeper = NamespaceSweeper(repair=repairs.repair, seconds=60)
    await sweeper.sweep(NAMES[:4])
    await sweeper.sweep(NAMES[1:5])
    assert NAMES[4] == repairs.names[4]
    await sweeper.sweep(NAMES[:5])
    assert NAMES[0] == repairs.names[8]


async def test_without_time_no_repair_starts() -> None:
    """All namespaces are left for the next sweep, and counted."""
    repairs = Repairs()
    result = await NamespaceSweeper(repair=repairs.repair, seconds=0).sweep(NAMES)
    assert ("swept 0 of 40 namespaces: all is well; 40 left for the next sweep", []) == (str(result), repairs.names)


@pytest.mark.parametrize("fault", [TransientError("away"), RefusedError("no")], ids=["away", "refused"])
async def test_a_fault_in_one_namespace_stops_no_other(fault: SaffireError) -> None:
    """It is counted, and the namespace has to wait for the next sweep like all others."""
    repairs = Repairs(faults=dict.fromkeys(NAMES[:6], fault))
    result = await NamespaceSweeper(repair=repairs.repair, seconds=60).sweep(NAMES)
    assert "swept 40 of 40 namespaces: 6 failed" == str(result)
    assert sorted(NAMES) == sorted(repairs.names)


async def test_a_bug_that_one_namespace_meets_stops_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    """No object that a user can write keeps the sweep from other namespaces; the log has the trace."""
    logs.configure("INFO")
    repairs = Repairs(faults=dict.fromkeys(NAMES[:6], ZeroDivisionError("a bug")))
    result = await NamespaceSweeper(repair=repairs.repair, seconds=60).sweep(NAMES)
    assert "swept 40 of 40 namespaces: 6 failed" == str(result)
    assert sorted(NAMES) == sorted(repairs.names)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(NAMES[:6]) == sorted(line["namespace"] for line in lines)
    assert all("ZeroDivisionError" in line["message"] for line in lines)


def stuck(namespace: str, *workloads: str) -> RepairOutcome:
    """Return the outcome of a repair that left a container of each of these Deployments."""
    containers = (
        LeftContainer(
            source="shop",
            namespace=namespace,
            owner=OwnerReference(api_version="apps/v1", kind="Deployment", name=name, uid=""),
            container="web",
            image="quay.io/acme/web:1",
            reason=Reason.PAUSED,
            message="",
            since=NOW,
        )
        for name in workloads
    )
    return RepairOutcome(left=LeftInNamespace(namespace=namespace, containers=tuple(containers)))


@pytest.mark.parametrize(
    ("expected", "stuck_in"),
    [
        pytest.param("", {"a": ()}, id="nothing"),
        pytest.param(
            "; stuck: web of Deployment/api in a (Paused), web of Deployment/api in b (Paused), "
            "web of Deployment/db in a (Paused)",
            {"b": ("api",), "a": ("db", "api")},
            id="few",
        ),
        pytest.param(
            f"; stuck: {', '.join(f'web of Deployment/w{number} in a (Paused)' for number in range(8))}, and 3 more",
            {"a": tuple(f"w{number}" for number in range(9)), "b": ("x", "y")},
            id="many",
        ),
    ],
)
async def test_the_result_names_what_hangs(expected: str, stuck_in: dict[str, tuple[str, ...]]) -> None:
    """The line of the log is the first that anybody reads at night. It stays one line."""

    async def repair(item: WorkItem) -> RepairOutcome:
        return stuck(item.namespace, *stuck_in[item.namespace])

    result = await NamespaceSweeper(repair=repair, seconds=60).sweep(stuck_in)
    assert f"swept {len(stuck_in)} of {len(stuck_in)} namespaces: all is well{expected}" == str(result)


SLOW = tuple(f"slow-{number}" for number in range(30))


@pytest.fixture
def slow_after_50_ms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a repair be slow that takes longer than a twentieth of a second."""
    monkeypatch.setattr(sweep, "_QUICK_SECONDS", 0.05)


@pytest.mark.usefixtures("slow_after_50_ms")
async def test_many_slow_namespaces_delay_no_other() -> None:
    """In one sweep, every other namespace is repaired while they are slow, and registries are probed."""
    repairs, probed = Repairs(slow=SLOW), asyncio.Event()

    async def probe() -> None:
        probed.set()

    sweeper = NamespaceSweeper(repair=repairs.repair, seconds=60, when_all_begun=probe)
    sweeping = asyncio.create_task(sweeper.sweep([*NAMES, *SLOW]))
    await asyncio.wait_for(probed.wait(), timeout=10)
    assert sorted([*NAMES, *SLOW]) == sorted(repairs.names)
    assert not sweeping.done()
    repairs.end.set()
    assert "swept 70 of 70 namespaces: all is well" == str(await sweeping)


@pytest.mark.usefixtures("slow_after_50_ms")
async def test_a_slow_namespace_comes_last_in_the_next_sweep() -> None:
    """It has not waited longer than others: they come first, however many slow ones there are."""
    repairs = Repairs(slow=SLOW)
    sweeper = NamespaceSweeper(repair=repairs.repair, seconds=60)
    sweeping = asyncio.create_task(sweeper.sweep([*SLOW, *NAMES]))
    await eventually(lambda: 70 == len(repairs.names))
    repairs.end.set()
    await sweeping
    await sweeper.sweep([*SLOW, *NAMES])
    assert sorted(NAMES) == sorted(repairs.names[70:110])


@pytest.mark.usefixtures("slow_after_50_ms")
async def test_at_most_32_slow_repairs_are_under_way_at_once() -> None:
    """Each takes some memory, and some of the API server's time."""
    many = tuple(f"slow-{number}" for number in range(50))
    repairs = Repairs(slow=many)
    sweeper = NamespaceSweeper(repair=repairs.repair, seconds=60)
    sweeping = asyncio.create_task(sweeper.sweep(many))
    await eventually(lambda: 32 == len(repairs.names))
    await asyncio.wait([sweeping], timeout=0.1)
    assert 32 == len(repairs.names)
    repairs.end.set()
    assert "swept 50 of 50 namespaces: all is well" == str(await sweeping)


async def test_no_probe_is_sent_without_time() -> None:
    """The namespaces that are left come first."""
    repairs, probed = Repairs(), asyncio.Event()

    async def probe() -> None:
        probed.set()

    await NamespaceSweeper(repair=repairs.repair, seconds=0, when_all_begun=probe).sweep(NAMES)
    assert not probed.is_set()
