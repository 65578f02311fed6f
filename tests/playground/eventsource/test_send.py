"""`make send` posts an Event as Knative would, and prints the answer."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from playground.cluster.controlplane import ControlPlane
from playground.environment import install
from playground.eventsource.send import EXAMPLE, SendError, send
from playground.function_process import FunctionProcess


@pytest.mark.api
async def test_the_example_is_answered(plane: ControlPlane) -> None:
    """Saffire accepts the example and reads the cluster; the command prints status and text of its answer."""
    await install(plane.admin)
    async with FunctionProcess(plane.kubeconfig) as function:
        command = (sys.executable, "-m", "playground", "send", "--to", function.url)
        run = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        (line,) = function.log()
    assert (0, f"200 {line['outcome']}\n") == (run.returncode, run.stdout)
    assert line["pod"] == "saffire-example/web-7d4b9c6f5-x2x8p"


def test_without_an_answer_the_message_says_what_to_start() -> None:
    """If nothing listens at the URL, the message names `make run`."""
    with pytest.raises(SendError, match="make run"):
        send(EXAMPLE, "http://127.0.0.1:1/")


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"metadata": {}})])
def test_a_file_without_an_event_is_not_sent(content: str, tmp_path: Path) -> None:
    """If the file holds no Event, the error names the file."""
    file = tmp_path / "event.json"
    file.write_text(content)
    with pytest.raises(SendError, match=r"event\.json holds no Event"):
        send(file, "http://127.0.0.1:1/")
