"""Reports the progress of steps that take long: when a step begins, that it goes on, and when it ends."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

TERMINAL_SECONDS = 1
"""How often a terminal shows the seconds that have passed."""

LOG_SECONDS = 20
"""How often a log, which is no terminal, gets a line that the step goes on."""


@contextmanager
def step(title: str, out: TextIO) -> Iterator[None]:
    """Report that `title` begins, goes on and ends, with the seconds since it began."""
    begin = time.monotonic()
    over = threading.Event()
    print(f"{title} …", end="" if out.isatty() else "\n", file=out, flush=True)
    ticker = threading.Thread(target=_tick, args=(title, out, begin, over), daemon=True)
    ticker.start()
    outcome = "failed after"
    try:
        yield
        outcome = "done in"
    finally:
        over.set()
        ticker.join()
        _show(title, f"{outcome} {time.monotonic() - begin:.0f} s", out, last=True)


def _tick(title: str, out: TextIO, begin: float, over: threading.Event) -> None:
    while not over.wait(TERMINAL_SECONDS if out.isatty() else LOG_SECONDS):
        _show(title, f"{time.monotonic() - begin:.0f} s", out)


def _show(title: str, state: str, out: TextIO, *, last: bool = False) -> None:
    if out.isatty():
        print(f"\r{title} … {state}", end="\n" if last else "", file=out, flush=True)
    else:
        print(f"{title} … {state}", file=out, flush=True)
