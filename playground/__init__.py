"""
Runs Saffire against a real Kubernetes control plane, for the demo, the tests and the benchmarks.

- `cluster/`: the control plane as plain processes, and the client of its API server
- `node/`: a real node with kubelet and containerd, and real registries; needs root
- `simulated/`: simulated nodes, for machines without root
- `eventsource/`: Knative's event sources; what they send is written by the package `eventsource` of the image
- `function_process`: Saffire in a process of its own
- `registry_gateway`, `certificates`: between Saffire and registries on loopback that have the names of real ones
- `environment`: the control plane with `knative/` applied, Saffire and its event sources
- `demo/`: a registry dies, and Saffire moves the workloads that need it
"""

from pathlib import Path

ROOT = Path(__file__).parent.parent
"""The checkout."""
