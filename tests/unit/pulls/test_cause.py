"""Causes: held to what runtimes and kubelets wrote, with any name in it."""

import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import testkit
from saffire.pulls.cause import REASONS, ROWS, Cause, Remedy, classify, redact
from saffire.pulls.kubelet_event import read_event
from saffire.registry.reference import Reference
from testkit.builders import recorded
from testkit.strategies import reference_texts

_FILE = testkit.RECORDINGS / "pull-errors.txt"
_LINES = [line.partition(": ") for line in _FILE.read_text().splitlines() if not line.startswith("#")]
TEXTS = [(Cause(cause), text) for cause, _, text in _LINES]
# The first recorded text of each cause.
RECORDED = dict(reversed(TEXTS))
PLAIN = Reference.parse("quay.io/acme/web:v1")


def naming(text: str, image: Reference) -> str:
    """Return a recorded text with an image in it."""
    host, path = image.repository.domain, image.repository.path
    tag = image.digest or image.tag or "latest"
    return text.format(host=host, path=path, tag=tag, digest=64 * "5")


def plain(text: str) -> str:
    """Return a recorded text with an everyday image in it."""
    return naming(text, PLAIN)


def deciding(text: str) -> int | None:
    """Return the index of the row that decides about a text."""
    words = redact(text)
    return next((index for index, (_, row) in enumerate(ROWS) if row.search(words)), None)


# The table


@pytest.mark.parametrize(("expected", "text"), TEXTS)
def test_the_runtime_s_words_tell_the_cause(expected: Cause, text: str) -> None:
    """What containerd, CRI-O, Docker and the kubelet wrote down, in their words."""
    assert expected is classify("ErrImagePull", plain(text))


@pytest.mark.parametrize(("expected", "text"), TEXTS)
def test_a_back_off_keeps_the_cause(expected: Cause, text: str) -> None:
    """Since Kubernetes 1.32 the last error follows a back-off, behind the reason that it had."""
    assert expected is classify("ImagePullBackOff", f"ErrImagePull: {plain(text)}")


def test_every_row_is_held_by_a_recorded_text() -> None:
    """A row that decides about no text of these would be somebody's guess."""
    needed = {deciding(plain(text)) for _, text in TEXTS}
    assert [] == [row.pattern for index, (_, row) in enumerate(ROWS) if index not in needed]


RECORDINGS = [
    *(("blob404", Cause.PARTIAL), ("s401", Cause.DENIED), ("s403", Cause.DENIED), ("s404", Cause.ABSENT)),
    *(("s429", Cause.THROTTLED), ("s500", Cause.SERVER_ERROR), ("s502", Cause.SERVER_ERROR)),
    *(("s503", Cause.SERVER_ERROR), ("badplatform", Cause.PLATFORM), ("nginx", Cause.DNS), ("nosuch", Cause.DNS)),
    *(("5999/team", Cause.REFUSED), ("10.99.0.1", Cause.REFUSED), ("5001/team", Cause.REFUSED)),
]


def test_every_recorded_event_is_understood() -> None:
    """Of two kubelets' recorded failures none is unknown, and each is what its registry was made to do."""
    reports = [read_event(event) for file in ("events-1.20.json", "events-1.34.json") for event in recorded(file)]
    told = {(report.image, classify("ErrImagePull", report.error)) for report in reports if report and report.error}
    assert {name for name, _ in RECORDINGS} == {name for name, _ in RECORDINGS for image, _ in told if name in image}
    for image, cause in told:
        assert [cause] == [expected for name, expected in RECORDINGS if name in image]


# The reason


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        (Cause.BAD_NAME, "InvalidImageName"),
        (Cause.NEVER_PULL, "ErrImageNeverPull"),
        (Cause.SIGNATURE, "SignatureValidationFailed"),
        (Cause.NODE, "ImageInspectError"),
        (Cause.REFUSED, "RegistryUnavailable"),
        (Cause.UNKNOWN, "ErrImagePull"),
        (Cause.UNKNOWN, "ImagePullBackOff"),
    ],
)
def test_a_reason_alone_may_tell_the_cause(expected: Cause, reason: str) -> None:
    """Before the text arrives, or where it says nothing that is known."""
    assert [expected] * 2 == [classify(reason, ""), classify(reason, "the dog ate it")]


@pytest.mark.parametrize("reason", list(REASONS))
def test_no_text_makes_up_for_a_reason_that_is_final(reason: str) -> None:
    """It may say more exactly why no other repository helps, and never that one does."""
    for cause, text in TEXTS:
        expected = cause if cause.remedy is Remedy.LEAVE else REASONS[reason]
        assert expected is classify(reason, plain(text))


def test_a_registry_is_unavailable_for_the_reason_in_the_text() -> None:
    """CRI-O calls it so whatever refused the connection, be it the proxy."""
    assert Cause.PROXY is classify("RegistryUnavailable", plain(RECORDED[Cause.PROXY]))


# The remedy


@pytest.mark.parametrize(
    ("expected", "names"),
    [
        (Remedy.LEAVE, "signature platform disk bad-name never-pull node proxy"),
        (Remedy.MOVE, "partial throttled tls dns refused timeout server-error reset unknown"),
        (Remedy.PROVEN, "denied absent"),
    ],
)
def test_every_cause_has_its_remedy(expected: Remedy, names: str) -> None:
    """None helps, another repository does, or one that is known to have the image."""
    assert sorted(names.split()) == sorted(cause for cause in Cause if cause.remedy is expected)


def test_a_registry_is_down_in_four_ways() -> None:
    """Nothing can be pulled from it; a bad certificate, a limit or a broken connection is less than that."""
    assert {"dns", "refused", "timeout", "server-error"} == {cause for cause in Cause if cause.is_down}


def test_every_meaning_is_a_sentence_of_its_own() -> None:
    """An operator reads it and knows what to mend."""
    assert len(Cause) == len({cause.in_words("quay.io") for cause in Cause})


@pytest.mark.parametrize(
    ("expected", "cause"),
    [
        ("quay.io:5000 has the image, but a part of it is missing or damaged", Cause.PARTIAL),
        ("quay.io:5000 allows no more pulls for now", Cause.THROTTLED),
        ("the node does not accept the certificate or the TLS of quay.io:5000", Cause.TLS),
        ("the name quay.io:5000 cannot be resolved", Cause.DNS),
        ("quay.io:5000 refused the connection", Cause.REFUSED),
        ("quay.io:5000 answers with an error of its own (5xx)", Cause.SERVER_ERROR),
        ("quay.io:5000 does not answer in time", Cause.TIMEOUT),
        ("the connection to quay.io:5000 broke off", Cause.RESET),
        ("quay.io:5000 denies the node the image, or has none of that name", Cause.DENIED),
        ("quay.io:5000 has no image of that name", Cause.ABSENT),
        ("the pull from quay.io:5000 failed, and the node does not say why in known words", Cause.UNKNOWN),
    ],
)
def test_whatever_another_registry_may_help_with_names_the_one_that_failed(expected: str, cause: Cause) -> None:
    """The other causes are the node's or the image's own, and name no registry."""
    assert expected == cause.in_words("quay.io:5000")


def test_a_cause_of_the_node_or_the_image_names_no_registry() -> None:
    """An operator who reads a registry's name looks there."""
    assert not any("quay.io" in cause.in_words("quay.io") for cause in Cause if cause.remedy is Remedy.LEAVE)


# Several credentials


@pytest.mark.parametrize("first", list(RECORDED))
def test_of_several_errors_the_first_in_order_counts(first: Cause) -> None:
    """Whichever credential came first: what cannot be helped, then what can, then what may be a wrong name."""
    order = [Remedy.LEAVE, Remedy.MOVE, Remedy.PROVEN]
    one = plain(RECORDED[first])
    for second, text in RECORDED.items():
        other = plain(text)
        found = classify("ErrImagePull", f"[{one}, {other}]")
        assert found is classify("ErrImagePull", f"[{other}, {one}]")
        known = {first, second} - {Cause.UNKNOWN} or {Cause.UNKNOWN}
        assert found in known
        assert min(order.index(cause.remedy) for cause in known) == order.index(found.remedy)


# Names that say something


_WORDS = sorted({word for _, row in ROWS for word in re.findall(r"[a-z0-9]+", row.pattern)} | {"503", "404", "i", "o"})
_PHRASES = sorted({"-".join(re.findall(r"[a-z0-9]+", row.pattern.lower())) for _, row in ROWS})
_part = st.one_of(st.sampled_from(_WORDS), st.sampled_from(_PHRASES).filter(lambda phrase: len(phrase) < 60))
_tag = st.one_of(
    _part,
    st.sampled_from(["EOF", "SignatureValidationFailed", "Forbidden", "503", "unknown", "not", "Client.Timeout"]),
)
_host = st.one_of(st.just("docker.io"), _part.map(lambda part: f"{part}.io"), _part.map(lambda part: f"{part}:503"))
_hostile = st.builds(
    lambda host, path, tag: Reference.parse(f"{host}/{'/'.join(path)}:{tag}"),
    _host,
    st.lists(_part, min_size=1, max_size=3),
    _tag,
)


@given(st.sampled_from(TEXTS), st.one_of(_hostile, reference_texts().map(Reference.parse)))
def test_no_name_has_a_say(recorded_text: tuple[Cause, str], image: Reference) -> None:
    """Whatever an image, its tag or its registry is called, and where a runtime puts it, the cause is the same."""
    cause, text = recorded_text
    assert cause is classify("ErrImagePull", naming(text, image))


@pytest.mark.parametrize(("expected", "text"), TEXTS)
def test_no_word_of_the_table_has_a_say_as_a_name(expected: Cause, text: str) -> None:
    """Not even where a familiar name is one word: as a tag, and as the whole of a path."""
    words = (*_WORDS, *_PHRASES, "EOF", "SignatureValidationFailed", "Forbidden")
    said = {word: text.format(host="docker.io", path=word.lower(), tag=word, digest=64 * "4") for word in words}
    assert [] == [word for word, error in said.items() if classify("ErrImagePull", error) is not expected]


@given(st.sampled_from(TEXTS), st.sampled_from(TEXTS), st.booleans())
def test_what_is_quoted_has_no_say(told: tuple[Cause, str], quoted: tuple[Cause, str], closed: bool) -> None:  # noqa: FBT001 - drawn
    """A page that a registry sent along, cut short or not, does not decide over the words of the runtime."""
    page = plain(quoted[1]).replace("\\", "\\\\").replace('"', '\\"')
    said = f'{plain(told[1])}: "<html>{page}' + ('"' if closed else "")
    assert told[0] is classify("ErrImagePull", said)


@given(st.sampled_from(TEXTS), st.sampled_from([" - Server message: ", "\n"]))
def test_what_a_registry_says_of_itself_has_no_say(told: tuple[Cause, str], mark: str) -> None:
    """It answered with a status; its own full disk, or what it could not reach itself, is none of the node's."""
    answer = plain('failed to resolve reference "{host}/{path}:{tag}": unexpected status: 500 Internal Server Error')
    said = f"{answer}{mark}unknown: {plain(told[1])}"
    assert Cause.SERVER_ERROR is classify("ErrImagePull", said)
    assert Cause.DISK is classify("ErrImagePull", f"[{said}, {plain(RECORDED[Cause.DISK])}]")


# Hostile texts


@given(st.text())
def test_any_text_has_a_cause(text: str) -> None:
    """Whatever a registry makes a runtime say."""
    assert classify("ErrImagePull", text) in Cause


def _long() -> Iterator[str]:
    """Yield texts that would keep a careless pattern busy."""
    for piece in (
        '"',
        '\\"',
        "\\",
        "/",
        "status ",
        "status status",
        "[manifests ",
        "denied for ",
        "httpReadSeeker: ",
        "a",
    ):
        yield piece * 200_000
    for cause, text in TEXTS:
        yield f"{plain(text)} {cause} " * 2000


@pytest.mark.parametrize("text", [*_long()], ids=lambda text: repr(text[:12]))
def test_a_long_text_takes_no_longer(text: str) -> None:
    """Only its beginning is read, in time that grows with its length alone: milliseconds."""
    before = time.process_time()
    classify("ErrImagePull", text)
    assert time.process_time() - before < 0.1


def test_a_reason_behind_the_longest_names_is_read() -> None:
    """A runtime may name an image five times before it comes to the point."""
    longest = Reference.parse(f"{'a' * 60}.{'b' * 60}.{'c' * 60}.io:5000/{'d/' * 120}web:{'e' * 120}")
    for cause, text in TEXTS:
        assert cause is classify("ErrImagePull", naming(text, longest))
