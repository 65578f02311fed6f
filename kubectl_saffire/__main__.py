"""The command line of the plugin: `kubectl saffire --help`."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from kubectl_saffire.commands import COMMANDS
from kubectl_saffire.errors import UsageError
from kubectl_saffire.screen import Screen
from kubectl_saffire.session import Session
from saffire.errors import SaffireError

FAILED = 2
"""The exit status after a usage error, and if the cluster does not answer; `argparse` has the same."""
_INTERRUPTED = 130
_EXAMPLES = """\
examples:
  kubectl saffire drill quay.io         # if quay.io died now, what would hang?
  kubectl saffire why deployment/web    # what happens, or would happen, to it
  kubectl saffire status                # what moved, and what hangs
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command of the command line; return the exit status."""
    arguments = parser().parse_args(argv)
    screen = Screen.of_terminal(sys.stdout, sys.stderr, no_colour=bool(os.environ.get("NO_COLOR")))
    _tell_log(screen)
    try:
        status = asyncio.run(_run(arguments, screen))
        screen.flush()
    except UsageError as error:
        screen.error(str(error))
        return FAILED
    except SaffireError as error:
        screen.error(f"{error}\nSee whether kubectl get --raw=/readyz works with the same --context.")
        return FAILED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    return status


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    of_all = argparse.ArgumentParser(
        prog="kubectl saffire",
        description="Tell what Saffire would do, does, and did not do. It only reads, but for init --apply.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = of_all.add_subparsers(required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        of_command = commands.add_parser(
            name,
            help=command.HELP,
            description=f"{command.HELP[:1].upper()}{command.HELP[1:]}.",
            epilog=command.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add(of_command)
        connection = of_command.add_argument_group("connection")
        connection.add_argument("-n", "--namespace", default="", help="the namespace")
        connection.add_argument("--context", default="", help="a context of the kubeconfig, instead of the current one")
        connection.add_argument("--kubeconfig", default="", metavar="PATH", help="instead of $KUBECONFIG")
        of_command.set_defaults(run=command.run)
    return of_all


async def _run(arguments: argparse.Namespace, screen: Screen) -> int:
    session = await Session.open(arguments, os.environ, screen, now=datetime.now(UTC))
    try:
        status: int = await arguments.run(arguments, session)
    finally:
        await session.close()
    return status


class _Warnings(logging.Handler):
    """Writes what Saffire's own modules log as warnings of the plugin."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.WARNING)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        """Write a log record: its message and its fields."""
        fields = getattr(record, "json_fields", {})
        self._screen.warn(" ".join((f"warning: {record.getMessage()}", *(f"{key}={fields[key]}" for key in fields))))


def _tell_log(screen: Screen) -> None:
    logger = logging.getLogger("saffire")
    logger.handlers, logger.propagate = [_Warnings(screen)], False


if __name__ == "__main__":
    sys.exit(main())
