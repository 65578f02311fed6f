"""
The benchmarks: numbers about Saffire, each beside a baseline of the same run.

`make bench` runs them. A *figure* is a module whose `measure` yields results, and a line in `bench.catalogue`. What is
played is what the tests play, from `testkit`, so that whatever is measured is also proven.
"""
