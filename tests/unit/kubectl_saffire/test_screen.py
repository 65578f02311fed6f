"""What reaches the terminal is escaped, fits, and has colours only where there is a terminal."""

from io import StringIO

import pytest

from kubectl_saffire.screen import Screen, Style, ToType, folded, table_lines

HOSTILE = "web\x1b[2J\x07\r\n\u202e\x9b31mjs"
LONG = "registry.example.com/a/very/long/path/of/a/repository/that/nobody/reads/to/its/end:v1.2.3"


class Terminal(StringIO):
    """A text file that says of itself that it is a terminal."""

    def isatty(self) -> bool:
        """Tell that this is a terminal."""
        return True


def is_harmless(text: str) -> bool:
    """Tell whether a text has only printable ASCII and line ends."""
    return text.isascii() and text.replace("\n", "").isprintable()


def test_control_characters_of_the_cluster_do_not_reach_the_terminal() -> None:
    """A name or a message that somebody put into the cluster moves no cursor, and hides no text."""
    out, err = StringIO(), StringIO()
    screen = Screen(out, err)
    screen.line(HOSTILE, Style.RED)
    screen.table((HOSTILE, "B"), [(HOSTILE, "b")], [[HOSTILE, ToType(HOSTILE)]])
    screen.warn(HOSTILE)
    screen.error(f"{HOSTILE}\n{HOSTILE}")
    screen.flush()
    assert is_harmless(out.getvalue()), out.getvalue()
    assert is_harmless(err.getvalue()), err.getvalue()
    assert "web\\x1b[2J\\x07\\r\\n\\u202e\\x9b31mjs" in out.getvalue()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_lines_fit(width: int) -> None:
    """No line of a table or of a text is longer than the terminal is wide, and no character of a cell is lost."""
    rows = [(LONG, "web", "3", "template, pods"), ("Deployment/web", LONG, "1", "")]
    lines = [
        line for row in table_lines(("WORKLOAD", "CONTAINER", "PODS", "STRATEGY"), rows, width=width) for line in row
    ]
    assert max(map(len, lines)) <= width
    assert max(map(len, folded(f"{LONG} " * 3 + "x" * 200, width, indent=4))) <= width
    assert LONG in "".join(line[: len(LONG)].split("  ")[0] for line in lines)


def test_a_narrow_table_is_not_padded_to_the_width() -> None:
    """Columns are as wide as their texts, two spaces apart."""
    assert [["A    B"], ["web  1"]] == table_lines(("A", "B"), [("web", "1")], width=80)


def test_a_command_stays_on_one_line() -> None:
    """A user can copy it."""
    out = StringIO()
    command = f"kubectl edit ais {'x' * 100}"
    Screen(out, StringIO()).note(ToType(command), indent=4)
    assert f"    $ {command}\n" == out.getvalue()


@pytest.mark.parametrize(("no_colour", "expected"), [(False, "\x1b[31mit hangs\x1b[0m\n"), (True, "it hangs\n")])
def test_a_terminal_has_colours_unless_its_user_wants_none(*, no_colour: bool, expected: str) -> None:
    """The variable NO_COLOR switches them off."""
    out = Terminal()
    Screen.of_terminal(out, StringIO(), no_colour=no_colour).line("it hangs", Style.RED)
    assert expected == out.getvalue()


def test_a_pipe_has_no_colours() -> None:
    """What a program reads has no escape sequences."""
    out = StringIO()
    Screen.of_terminal(out, StringIO(), no_colour=False).line("it hangs", Style.RED)
    assert "it hangs\n" == out.getvalue()


def test_progress_is_shown_after_a_second_and_removed_by_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quick command shows none; a slow one shows it in a terminal, and the result is not mixed with it."""
    clock = [0.0]
    monkeypatch.setattr("kubectl_saffire.screen.time.monotonic", lambda: clock[0])
    out, err = StringIO(), Terminal()
    screen = Screen(out, err)
    screen.progress("read 250 pods")
    assert not err.getvalue()
    clock[0] = 1.5
    screen.progress("read 500 pods")
    screen.line("done")
    assert "\r\x1b[Kread 500 pods\r\x1b[K" == err.getvalue()
    assert "done\n" == out.getvalue()


def test_a_pipe_gets_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of a job is not full of it."""
    clock = iter((0.0, 100.0))
    monkeypatch.setattr("kubectl_saffire.screen.time.monotonic", lambda: next(clock))
    err = StringIO()
    Screen(StringIO(), err).progress("read 250 pods")
    assert not err.getvalue()
