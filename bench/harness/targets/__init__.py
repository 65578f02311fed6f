"""Functions to compare with, as functions-framework serves them."""

from pathlib import Path

EMPTY = Path(__file__).with_name("empty.py")
CLIENT = Path(__file__).with_name("client.py")
