"""
The mutation score of each package: how many small changes of its code the unit tests notice.

`make mutate` pipes the results of mutmut into this module, one mutant a line: `    saffire.policy.reach.x_f__mutmut_1:
killed`. A mutant that was not tested counts for nothing.
"""

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable

_RESULT = re.compile(r"\s*saffire\.(\w+)\.\S+__mutmut_\d+: (.+)")
# An endless loop and a crash are noticed too.
_NOTICED = frozenset({"killed", "timeout", "suspicious", "segfault", "caught by type check"})
_UNTESTED = frozenset({"not checked", "skipped", "check was interrupted by user"})


def scores(lines: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return how many mutants the tests noticed, and how many were tested, by package."""
    counts: defaultdict[str, Counter[bool]] = defaultdict(Counter)
    for line in lines:
        result = _RESULT.fullmatch(line.rstrip())
        if result and result[2] not in _UNTESTED:
            counts[result[1]][result[2] in _NOTICED] += 1
    return {package: (count[True], count.total()) for package, count in sorted(counts.items())}


def main() -> None:
    """Print the score of each package."""
    for package, (noticed, tested) in scores(sys.stdin).items():
        print(f"{package}: {noticed} of {tested} mutants are noticed, {noticed / tested:.1%}")


if __name__ == "__main__":
    main()
