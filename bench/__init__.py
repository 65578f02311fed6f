"""
The benchmarks measure Saffire, each number beside a baseline of the same run.

`make bench` runs them. A *figure* is a module of `bench.figures` whose `measure` yields results, and a line in
`bench.catalogue`. Benchmarks run the workloads and outages of the tests, from `testkit`, so that whatever is measured
is also tested.
"""
