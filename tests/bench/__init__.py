"""Tests of the benchmarks: their command line, files, tables and pages."""
