"""Functions that functions-framework runs: baselines, and Saffire where it is measured as within a pod."""

from pathlib import Path

EMPTY = Path(__file__).with_name("empty.py")
CLIENT = Path(__file__).with_name("client.py")
POD = Path(__file__).with_name("pod.py")
