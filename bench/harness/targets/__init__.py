"""Functions that serve as baselines, run by functions-framework."""

from pathlib import Path

EMPTY = Path(__file__).with_name("empty.py")
CLIENT = Path(__file__).with_name("client.py")
