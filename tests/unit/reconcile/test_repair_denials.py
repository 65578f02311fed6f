"""Repair: which candidate is chosen if the API server denied others. What is denied is tested on a control plane."""

import pytest

from saffire.policy.plan import Failover, Leave, Reason
from saffire.pulls.failure import FailingPod, find_pull_failures
from saffire.reconcile.recent_reads import RecentReads
from saffire.reconcile.repair import decide_allowed
from testkit.builders import FAILING, NOW, SECOND, THIRD, pod, source, waiting
from tests.unit.reconcile.test_gather import decisions


@pytest.mark.parametrize(
    ("expected", "denied"),
    [
        pytest.param(SECOND, (), id="nothing"),
        pytest.param(THIRD, (SECOND,), id="the-first"),
        pytest.param(SECOND, (THIRD,), id="the-second"),
        pytest.param(None, (SECOND, THIRD), id="both"),
    ],
)
async def test_the_next_candidate_is_chosen_if_the_api_server_denies_one(
    expected: str | None, denied: tuple[str, ...]
) -> None:
    """A policy may allow one registry and forbid another. If it allows none, the first denial is the reason."""
    failing = pod(waiting())
    recent = RecentReads()
    for image in denied:
        recent.patch_denied(failing, image, NOW, why=f"{image} is not allowed")
    repositories = [image.rpartition(":")[0] for image in (FAILING, SECOND, THIRD)]
    async with decisions(source(repositories, verification="Off")) as deciding:
        [outcome] = await decide_allowed(
            deciding, [FailingPod(pod=failing, failures=find_pull_failures(failing))], recent
        )
    [plan] = outcome.plans
    if expected:
        assert isinstance(plan, Failover)
        assert expected == plan.candidate.image
    else:
        assert isinstance(plan, Leave)
        assert Reason.DENIED is plan.reason
        assert plan.detail.endswith(f"{SECOND} is not allowed")


async def test_at_most_eight_denied_candidates_are_skipped() -> None:
    """Each costs two patches in a sweep, and whoever may create sources names any number."""
    failing, repositories = pod(waiting()), [f"registry-{number}.example/acme/web" for number in range(12)]
    recent = RecentReads()
    for repository in repositories[:9]:
        recent.patch_denied(failing, f"{repository}:1.2", NOW, why="no")
    async with decisions(source([FAILING.rpartition(":")[0], *repositories], verification="Off")) as deciding:
        [outcome] = await decide_allowed(
            deciding, [FailingPod(pod=failing, failures=find_pull_failures(failing))], recent
        )
    assert isinstance(outcome.plans[0], Leave)
