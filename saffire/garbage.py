"""Garbage: how often Python looks for it."""

import asyncio
import functools
import gc


def settle() -> None:
    """
    Let the collector of garbage come seldom, and never look at what is there by now: modules, for the most part.

    A page of pods is tens of thousands of objects, and none of them is garbage while it is read. To look through them
    whenever 700 more have come, as is Python's way, took a seventh of the processor's time in a storm.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@functools.cache
def collect_every(seconds: float) -> None:
    """
    Have everything looked through now and then, in the running event loop and as long as that runs.

    A connection that was closed is a cycle of few objects with a quarter of a megabyte of buffers. Left to itself,
    Python would come to it after hours.
    """
    loop = asyncio.get_running_loop()
    loop.call_later(seconds, _collect, seconds, loop)


def _collect(seconds: float, loop: asyncio.AbstractEventLoop) -> None:
    gc.collect()
    loop.call_later(seconds, _collect, seconds, loop)
