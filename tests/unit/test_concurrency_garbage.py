"""How often Python stops to look for garbage, which nobody notices but for the time it takes."""

import subprocess
import sys

READ = """
import gc, json, sys
from saffire.garbage import settle
if "settled" in sys.argv:
    settle()
looks = []
gc.callbacks.append(lambda phase, info: looks.append(phase))
pod = {"metadata": {"labels": {str(n): {} for n in range(100)}}, "status": [{} for _ in range(100)]}
json.loads(json.dumps([pod] * 250))
print(len(looks))
"""


def looks(*arguments: str) -> int:
    """Return how often garbage was looked for while a page of pods was read."""
    done = subprocess.run([sys.executable, "-c", READ, *arguments], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_a_page_of_pods_is_read_without_looking_for_garbage_all_the_time() -> None:
    """Python's own way is to do so dozens of times, through all that was read before."""
    assert looks() >= 20 * max(looks("settled"), 1)


COLLECT = """
import asyncio, weakref
from saffire.garbage import collect_every, settle

class Connection:
    def __init__(self):
        self.protocol = self

async def main():
    settle()
    collect_every(0.01)
    for _ in range(2):
        closed = weakref.ref(Connection())
        assert closed()
        async with asyncio.timeout(30):
            while closed():
                await asyncio.sleep(0.01)

asyncio.run(main())
"""


def test_what_is_closed_is_not_kept_for_hours() -> None:
    """What refers to itself goes with the next look through everything, and with each after that."""
    subprocess.run([sys.executable, "-c", COLLECT], capture_output=True, text=True, check=True)
