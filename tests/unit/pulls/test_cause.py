"""Causes: of the texts that runtimes and kubelets wrote, with any image name in them."""

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
    """Return a recorded text with an ordinary image in it."""
    return naming(text, PLAIN)


def deciding(text: str) -> int | None:
    """Return the index of the row that decides about a text."""
    redacted = redact(text)
    return next((index for index, (_, row) in enumerate(ROWS) if row.search(redacted)), None)


# The table


@pytest.mark.parametrize(("expected", "text"), TEXTS)
def test_the_runtime_s_words_tell_the_cause(expected: Cause, text: str) -> None:
    """The recorded texts are those of containerd, CRI-O, Docker and the kubelet."""
    assert expected is classify("ErrImagePull", plain(text))


@pytest.mark.parametrize(("expected", "text"), TEXTS)
def test_a_back_off_keeps_the_cause(expected: Cause, text: str) -> None:
    """Since Kubernetes 1.32 a back-off's message ends with the last reason and error."""
    assert expected is classify("ImagePullBackOff", f"ErrImagePull: {plain(text)}")


def test_every_row_is_held_by_a_recorded_text() -> None:
    """A row that no recorded text needs would be a guess."""
    needed = {deciding(plain(text)) for _, text in TEXTS}
    assert [] == [row.pattern for index, (_, row) in enumerate(ROWS) if index not in needed]


RECORDINGS = [
    *(("blob404", Cause.PARTIAL), ("s401", Cause.DENIED), ("s403", Cause.DENIED), ("s404", Cause.ABSENT)),
    *(("s429", Cause.THROTTLED), ("s500", Cause.SERVER_ERROR), ("s502", Cause.SERVER_ERROR)),
    *(("s503", Cause.SERVER_ERROR), ("badplatform", Cause.PLATFORM), ("nginx", Cause.DNS), ("nosuch", Cause.DNS)),
    *(("5999/team", Cause.REFUSED), ("10.99.0.1", Cause.REFUSED), ("5001/team", Cause.REFUSED)),
]


def test_every_recorded_event_is_understood() -> None:
    """No recorded failure of two kubelets is unknown, and each has the cause that its registry was set up for."""
    reports = [read_event(event) for file in ("events-1.20.json", "events-1.34.json") for event in recorded(file)]
    causes = {(report.image, classify("ErrImagePull", report.error)) for report in reports if report and report.error}
    assert {name for name, _ in RECORDINGS} == {name for name, _ in RECORDINGS for image, _ in causes if name in image}
    for image, cause in causes:
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
    """It does so before the text arrives, and if no row matches the text."""
    assert [expected] * 2 == [classify(reason, ""), classify(reason, "the dog ate it")]


@pytest.mark.parametrize("reason", list(REASONS))
def test_no_text_outweighs_a_reason_that_no_repository_can_help(reason: str) -> None:
    """The text may name another cause that no repository can help, but no cause that one can."""
    for cause, text in TEXTS:
        expected = cause if cause.remedy is Remedy.LEAVE else REASONS[reason]
        assert expected is classify(reason, plain(text))


def test_the_text_says_why_a_registry_is_unavailable() -> None:
    """CRI-O gives `RegistryUnavailable` also if a proxy refused the connection."""
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
    """No repository helps, another may, or only one that is proven to have the image."""
    assert sorted(names.split()) == sorted(cause for cause in Cause if cause.remedy is expected)


def test_a_registry_is_down_in_four_ways() -> None:
    """Then no image can be pulled; with a bad certificate, a limit or a broken connection some may be."""
    assert {"dns", "refused", "timeout", "server-error"} == {cause for cause in Cause if cause.is_down}


def test_every_cause_has_a_sentence_of_its_own() -> None:
    """The sentence tells an operator what to repair."""
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
def test_a_cause_that_another_registry_may_help_names_the_one_that_failed(expected: str, cause: Cause) -> None:
    """The other causes are those of the node or the image, and name no registry."""
    assert expected == cause.in_words("quay.io:5000")


def test_a_cause_of_the_node_or_the_image_names_no_registry() -> None:
    """A registry's name would lead an operator to that registry."""
    assert not any("quay.io" in cause.in_words("quay.io") for cause in Cause if cause.remedy is Remedy.LEAVE)


# Several credentials


@pytest.mark.parametrize("first", list(RECORDED))
def test_of_several_errors_the_first_in_order_counts(first: Cause) -> None:
    """The order of the credentials does not matter; the order of the remedies is LEAVE, MOVE, PROVEN."""
    order = [Remedy.LEAVE, Remedy.MOVE, Remedy.PROVEN]
    first_text = plain(RECORDED[first])
    for second, recorded_text in RECORDED.items():
        second_text = plain(recorded_text)
        cause = classify("ErrImagePull", f"[{first_text}, {second_text}]")
        assert cause is classify("ErrImagePull", f"[{second_text}, {first_text}]")
        candidates = {first, second} - {Cause.UNKNOWN} or {Cause.UNKNOWN}
        assert cause in candidates
        assert min(order.index(candidate.remedy) for candidate in candidates) == order.index(cause.remedy)


# Names with words of the table


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
def test_no_name_decides_about_the_cause(recorded_text: tuple[Cause, str], image: Reference) -> None:
    """With any name of image, tag and registry, wherever a runtime puts it, the cause is the same."""
    cause, text = recorded_text
    assert cause is classify("ErrImagePull", naming(text, image))


@pytest.mark.parametrize(("expected", "text"), TEXTS)
def test_no_word_of_the_table_decides_as_a_name(expected: Cause, text: str) -> None:
    """It does not even if it is a tag, or the whole path of a familiar name."""
    words = (*_WORDS, *_PHRASES, "EOF", "SignatureValidationFailed", "Forbidden")
    errors = {word: text.format(host="docker.io", path=word.lower(), tag=word, digest=64 * "4") for word in words}
    assert [] == [word for word, error in errors.items() if classify("ErrImagePull", error) is not expected]


@given(recorded_text=st.sampled_from(TEXTS), quoted=st.sampled_from(TEXTS), closed=st.booleans())
def test_a_quotation_does_not_decide(
    recorded_text: tuple[Cause, str], quoted: tuple[Cause, str], *, closed: bool
) -> None:
    """A page that a registry sent, complete or clipped, does not outweigh the words of the runtime."""
    page = plain(quoted[1]).replace("\\", "\\\\").replace('"', '\\"')
    error = f'{plain(recorded_text[1])}: "<html>{page}' + ('"' if closed else "")
    assert recorded_text[0] is classify("ErrImagePull", error)


@given(st.sampled_from(TEXTS), st.sampled_from([" - Server message: ", "\n"]))
def test_a_registry_s_own_text_does_not_decide(recorded_text: tuple[Cause, str], mark: str) -> None:
    """The registry answered with a status; a full disk in its text is the registry's, not the node's."""
    answer = plain('failed to resolve reference "{host}/{path}:{tag}": unexpected status: 500 Internal Server Error')
    error = f"{answer}{mark}unknown: {plain(recorded_text[1])}"
    assert Cause.SERVER_ERROR is classify("ErrImagePull", error)
    assert Cause.DISK is classify("ErrImagePull", f"[{error}, {plain(RECORDED[Cause.DISK])}]")


# Hostile texts


@given(st.text())
def test_any_text_has_a_cause(text: str) -> None:
    """A registry may make a runtime write any text."""
    assert classify("ErrImagePull", text) in Cause


def _long() -> Iterator[str]:
    """Yield texts on which a careless pattern would take very long."""
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
    """Only its beginning is read, and the time grows linearly: milliseconds."""
    before = time.process_time()
    classify("ErrImagePull", text)
    assert time.process_time() - before < 0.1


def test_a_reason_after_the_longest_names_is_read() -> None:
    """A runtime may name an image five times before the reason."""
    longest = Reference.parse(f"{'a' * 60}.{'b' * 60}.{'c' * 60}.io:5000/{'d/' * 120}web:{'e' * 120}")
    for cause, text in TEXTS:
        assert cause is classify("ErrImagePull", naming(text, longest))
