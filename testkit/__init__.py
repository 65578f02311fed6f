"""
What tests and benchmarks share: nothing here is a test, and no module of Saffire imports this package.

- `builders`, `strategies`: Kubernetes objects as values, written out or drawn by Hypothesis
- `rfc6902`: JSON Patch as the API server applies it
- `scripted_registry`, `oci_images`, `check_registry`: registries on loopback, and how a test asks them about images
- `manifests`: the files of knative/, and API servers that know the custom resources
- `memory`, `watchdog`: what a process takes, and how long work keeps the event loop
- `event_sink`, `demo_output`: what the playground delivers and prints
- `api/`: a test's namespace on a real control plane, and the function's HTTP client
- `node/`: a test's namespace on a real node, and registries that really die
- `recordings/`: bytes recorded from real clusters
"""

from pathlib import Path

ROOT = Path(__file__).parent.parent
"""The top folder of the checkout."""

RECORDINGS = Path(__file__).parent / "recordings"
"""Bytes recorded from real clusters."""
