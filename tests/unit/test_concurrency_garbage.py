"""The garbage collector: how often it runs, and that it frees closed connections."""

import subprocess
import sys

READ = """
import gc, json, sys
from saffire.concurrency import tune_garbage_collector
if "tuned" in sys.argv:
    tune_garbage_collector()
phases = []
gc.callbacks.append(lambda phase, info: phases.append(phase))
pod = {"metadata": {"labels": {str(n): {} for n in range(100)}}, "status": [{} for _ in range(100)]}
text = json.dumps(pod)
pods = [json.loads(text) for _ in range(250)]  # from 3.12 on, the collector runs between two steps of Python only
print(len(phases))
"""


def collections(*arguments: str) -> int:
    """Return how often the collector started or stopped while a page of pods was read."""
    process = subprocess.run([sys.executable, "-c", READ, *arguments], capture_output=True, text=True, check=True)
    return int(process.stdout)


def test_a_page_of_pods_is_read_with_few_collections() -> None:
    """By default, Python's collector runs dozens of times and examines all that was read before."""
    assert collections() >= 10 * max(collections("tuned"), 1)


COLLECT = """
import asyncio, weakref
from saffire.concurrency import collect_garbage_every, tune_garbage_collector

class Connection:
    def __init__(self):
        self.protocol = self

async def main():
    tune_garbage_collector()
    collect_garbage_every(0.01)
    for _ in range(2):
        closed = weakref.ref(Connection())
        assert closed()
        async with asyncio.timeout(30):
            while closed():
                await asyncio.sleep(0.01)

asyncio.run(main())
"""


def test_a_closed_connection_is_freed_soon() -> None:
    """The next full collection frees an object that refers to itself, and so does each collection after it."""
    subprocess.run([sys.executable, "-c", COLLECT], capture_output=True, text=True, check=True)
