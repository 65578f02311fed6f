"""
The benchmarks: numbers about Saffire, each beside a yardstick of the same run.

`make bench` runs them. A *figure* is a module whose `measure` yields results, and a line in `bench.catalogue`. What is
played is what the tests play, so that whatever is measured is also proven.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
"""The checkout."""

# Last, so that a folder of tests named like a package hides none.
sys.path.append(str(ROOT / "tests"))
