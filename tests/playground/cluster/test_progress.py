"""Progress of long steps: a first line, signs of life, and a last line."""

import io
import threading

import pytest

from playground.cluster.progress import step


class Terminal(io.StringIO):
    """A terminal that notes when seconds are shown."""

    def __init__(self) -> None:
        super().__init__()
        self.ticked = threading.Event()

    def isatty(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Write, and note the seconds."""
        if text.endswith(" s"):
            self.ticked.set()
        return super().write(text)


def test_a_step_has_a_first_and_a_last_line() -> None:
    """A log gets a line at the beginning and a line at the end."""
    out = io.StringIO()
    with step("Building", out):
        pass
    expected = "Building …\nBuilding … done in 0 s\n"
    assert expected == out.getvalue()


def test_a_step_that_fails_says_so() -> None:
    """The last line says that the step failed."""
    out = io.StringIO()
    with pytest.raises(LookupError), step("Building", out):
        raise LookupError
    assert out.getvalue().endswith("Building … failed after 0 s\n")


def test_a_terminal_shows_the_seconds_on_one_line() -> None:
    """A terminal shows the passing seconds."""
    out = Terminal()
    with step("Building", out):
        assert out.ticked.wait(timeout=60)
    assert out.getvalue().startswith("Building …\rBuilding … 1 s\rBuilding … ")
    assert out.getvalue().endswith(" s\n")
