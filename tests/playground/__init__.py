"""Tests of the playground: it sends what Knative sends, and writes what a kubelet writes."""
