"""The mutation score: what the lines of mutmut say, by package."""

from bench.mutation import scores

RESULTS = """
    saffire.policy.reach.x_reach__mutmut_1: killed
    saffire.policy.reach.x_reach__mutmut_2: survived
    saffire.policy.plan.xǁPlanǁimages__mutmut_1: timeout
    saffire.policy.plan.xǁPlanǁimages__mutmut_2: no tests
    saffire.pulls.cause.x_cause__mutmut_1: not checked
    saffire.registry.check.x_check__mutmut_12: survived
"""


def test_a_package_is_scored_by_the_mutants_that_were_tested() -> None:
    """A mutant that no test reaches is one that no test notices; one that was not tested says nothing."""
    assert {"policy": (2, 4), "registry": (0, 1)} == scores(RESULTS.splitlines())
