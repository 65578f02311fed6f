"""Running a command returns its output; a failure shows what it printed."""

import sys

import pytest

from playground.cluster.commands import CommandError, run


async def test_the_output_is_returned() -> None:
    """The result is what the command prints to stdout, without stderr."""
    assert "said\n" == await run(sys.executable, "-c", "import sys; print('said'); print('aside', file=sys.stderr)")


async def test_variables_are_added_to_the_environment() -> None:
    """The command gets the caller's environment and the added variables."""
    output = await run(
        sys.executable, "-c", "import os; print(os.environ['ADDED'], 'PATH' in os.environ)", ADDED="word"
    )
    assert "word True\n" == output


async def test_a_failure_shows_status_and_errors() -> None:
    """If a command fails, the error has its status and what it printed to stderr."""
    with pytest.raises(CommandError, match=r"(?s)ended with status 3: no such flag"):
        await run(sys.executable, "-c", "import sys; print('no such flag', file=sys.stderr); sys.exit(3)")
