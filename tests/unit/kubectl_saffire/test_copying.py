"""Copying: the commands and configurations that copy exactly the planned images, whatever their names are."""

import shlex
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubectl_saffire.copying import FORMATS, OPEN, TO_COPY, Copy, as_crane, as_regsync, as_skopeo, states_of_copies
from saffire.policy.readiness import ImagePair, ReadinessState
from saffire.policy.running_images import ImageUse
from saffire.registry.reference import Reference
from saffire.sources.candidates import candidates
from testkit.builders import source

DIGEST = f"sha256:{64 * 'a'}"
WEB = Copy("quay.io/acme/web:v1", "ghcr.io/acme/web:v1")
HOSTILE = [
    "quay.io/acme/web:v1; touch owned",
    "$(touch owned)",
    "`touch owned`",
    "a\ntouch owned\n",
    "'; touch owned; '",
    '"; touch owned; "',
    "--help",
    "\\",
    "*",
    "",
]


@pytest.mark.parametrize(
    ("source", "target", "image"),
    [
        ("quay.io/acme/web:v1", "ghcr.io/acme/web:v1", "quay.io/acme/web:v1"),
        ("quay.io/acme/web:latest", "ghcr.io/acme/web:latest", "quay.io/acme/web"),
        (f"quay.io/acme/web@{DIGEST}", f"ghcr.io/acme/web@{DIGEST}", f"quay.io/acme/web@{DIGEST}"),
        (f"quay.io/acme/web@{DIGEST}", f"ghcr.io/acme/web@{DIGEST}", f"quay.io/acme/web:v1@{DIGEST}"),
    ],
)
def test_a_copy_keeps_the_digest_or_the_tag(source: str, target: str, image: str) -> None:
    """A digest is copied as a digest, so that a tag that has moved on since is left alone."""
    equivalent = f"ghcr.io/acme/web{Reference.parse(image).suffix}"
    assert Copy(source, target) == Copy.of(Reference.parse(image), Reference.parse(equivalent))


def test_docker_hubs_short_names_are_written_out() -> None:
    """Every copier means the same by a reference that has its registry."""
    copy = Copy.of(Reference.parse("nginx:1.29"), Reference.parse("registry-1.docker.io/acme/nginx:1.29"))
    assert Copy("docker.io/library/nginx:1.29", "docker.io/acme/nginx:1.29") == copy


def test_skopeo_copies_all_platforms_and_changes_none() -> None:
    """Without --all, skopeo copies the image of one platform, and its digest is another one."""
    assert (
        "skopeo copy --all --preserve-digests docker://quay.io/acme/web:v1 docker://ghcr.io/acme/web:v1\n"
    ) == as_skopeo([WEB])


def test_crane_copies_as_it_is_called() -> None:
    """Crane copies whole indexes by itself."""
    assert "crane copy quay.io/acme/web:v1 ghcr.io/acme/web:v1\n" == as_crane([WEB])


def test_regsync_gets_a_step_for_each_copy() -> None:
    """The steps of regsync's configuration, version 1, name one image each."""
    step = {"source": "quay.io/acme/web:v1", "target": "ghcr.io/acme/web:v1", "type": "image"}
    assert {"version": 1, "sync": [step]} == yaml.safe_load(as_regsync([WEB]))


@pytest.mark.parametrize("render", [as_skopeo, as_crane])
def test_a_hostile_name_runs_nothing(render: Callable[[Iterable[Copy]], str], tmp_path: Path) -> None:
    """Each name is one argument of the copier, even if something that is no reference got so far."""
    copies = [Copy(text, other) for text in HOSTILE for other in HOSTILE]
    # In place of the copiers, functions that print their arguments, each ended by a null byte.
    stub = "skopeo() { printf '%s\\0' \"$@\"; }\ncrane() { printf '%s\\0' \"$@\"; }\n"
    done = subprocess.run(
        ["/bin/sh", "-eu"], input=stub + render(copies), cwd=tmp_path, capture_output=True, text=True, check=True
    )
    arguments = [argument.removeprefix("docker://") for argument in done.stdout.split("\0")[:-1]]
    options = {"copy", "--all", "--preserve-digests"}
    names = [name for copy in copies for name in (copy.source, copy.target)]
    assert names == [argument for argument in arguments if argument not in options]
    assert ([], "") == (list(tmp_path.iterdir()), done.stderr)


@given(st.lists(st.builds(Copy, st.text(), st.text()), max_size=3))
def test_every_name_comes_back_as_it_was(copies: list[Copy]) -> None:
    """What a shell or a reader of YAML makes of the plan is the plan."""
    words = [word.removeprefix("docker://") for word in shlex.split(as_skopeo(copies))]
    assert [name for copy in copies for name in (copy.source, copy.target)] == [
        word for place, word in enumerate(words) if place % 6 > 3
    ]
    steps = yaml.safe_load(as_regsync(copies))["sync"]
    assert copies == [Copy(step["source"], step["target"]) for step in steps]


@pytest.mark.parametrize("name", FORMATS)
def test_a_plan_is_printable_ascii(name: str) -> None:
    """Nothing of a plan steers a terminal."""
    copy = Copy.of(Reference.parse("[::1]:5000/a/b"), Reference.parse("Quay.io/a/b"))
    assert FORMATS[name]([copy]).replace("\n", "").isprintable()


# What counts


def test_every_state_is_to_copy_or_there_or_open() -> None:
    """A pair is in the plan, or needs nothing, or is named with the reason."""
    there = set(ReadinessState) - TO_COPY - OPEN.keys()
    assert {ReadinessState.READY, ReadinessState.UNPROVEN} == there
    assert TO_COPY.isdisjoint(OPEN)


@pytest.mark.parametrize(
    ("counts", "states"),
    [
        (ReadinessState.PLATFORM, [ReadinessState.READY, ReadinessState.PLATFORM]),
        (ReadinessState.READY, [ReadinessState.DENIED, ReadinessState.READY]),
        (ReadinessState.DENIED, [ReadinessState.UNREACHABLE, ReadinessState.DENIED]),
        (ReadinessState.READY, [ReadinessState.UNREACHABLE, ReadinessState.READY]),
    ],
)
def test_of_several_answers_about_a_copy_the_most_telling_counts(
    counts: ReadinessState, states: list[ReadinessState]
) -> None:
    """A platform that is missing for some nodes is missing; what some pods may read is there."""
    (candidate,) = candidates(Reference.parse(WEB.source), [source(["quay.io/*", "ghcr.io/*"])])
    pair = ImagePair.of(ImageUse(image=WEB.source), candidate)
    for order in (states, states[::-1]):
        assert {WEB: counts} == states_of_copies((pair, state) for state in order)
