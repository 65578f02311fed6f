"""The whole decision about a pull failure, for tests that have gathered everything before."""

from datetime import datetime

from saffire.policy.decide import Gathered, check_pod, find_options, pick
from saffire.policy.plan import Leave, Plan
from saffire.pulls.failure import PullFailure


def decide(failure: PullFailure, gathered: Gathered, *, now: datetime) -> Plan:
    """Return the plan for a pull failure of the pod: run the three parts of the decision, one after the other."""
    options = check_pod(failure, gathered) or find_options(failure, gathered, now=now)
    return options if isinstance(options, Leave) else pick(options, gathered, now=now)
