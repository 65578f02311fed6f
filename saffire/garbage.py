"""Garbage: how often Python looks for it."""

import gc


def settle() -> None:
    """
    Let the collector of garbage come seldom, and never look at what is there by now: modules, for the most part.

    A page of pods is tens of thousands of objects, and none of them is garbage while it is read. To look through them
    whenever 700 more have come, as is Python's way, took a seventh of the processor's time in a storm.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
