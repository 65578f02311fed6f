"""The tests, by tier; what they share with the benchmarks is in `testkit`."""
