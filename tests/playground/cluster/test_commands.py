"""Commands: what they print is returned, and a failure says what they said."""

import sys

import pytest

from playground.cluster.commands import CommandError, run


async def test_the_output_is_returned() -> None:
    """A command's output is its result, errors aside."""
    assert "said\n" == await run(sys.executable, "-c", "import sys; print('said'); print('aside', file=sys.stderr)")


async def test_a_command_sees_what_is_added_to_its_environment() -> None:
    """The environment is the caller's and the additions."""
    said = await run(sys.executable, "-c", "import os; print(os.environ['ADDED'], 'PATH' in os.environ)", ADDED="word")
    assert "word True\n" == said


async def test_a_failure_says_status_and_errors() -> None:
    """A command that fails is an error with its own words."""
    with pytest.raises(CommandError, match=r"(?s)ended with status 3: no such flag"):
        await run(sys.executable, "-c", "import sys; print('no such flag', file=sys.stderr); sys.exit(3)")
