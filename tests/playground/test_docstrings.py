"""The examples in the playground's docstrings are true."""

import doctest
import importlib
from pathlib import Path

import pytest

import playground

FOLDER = Path(playground.__path__[0])
MODULES = [
    ".".join(path.relative_to(FOLDER.parent).with_suffix("").parts)
    for path in FOLDER.rglob("*.py")
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_the_examples_in_docstrings_are_true(module: str) -> None:
    """Every example gives the result that stands below it."""
    result = doctest.testmod(importlib.import_module(module))
    assert (0, True) == (result.failed, result.attempted > 0)
