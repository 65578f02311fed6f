"""Wording: the causes of the texts that runtimes and kubelets wrote, with any image name in them."""

import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import testkit
from saffire.pulls.cause import Cause, Remedy
from saffire.pulls.kubelet_event import read_event
from saffire.pulls.redaction import redact
from saffire.pulls.wording import OF_REGISTRIES, REASONS, ROWS, classify, names_part
from saffire.registry.reference import Reference
from testkit.builders import recorded
from testkit.strategies import reference_texts


def lines_of(file: str) -> list[str]:
    """Return the lines of a recording, without its comments; a new line of a text is a new line again."""
    lines = (testkit.RECORDINGS / file).read_text().splitlines()
    return [line.replace("\\n", "\n") for line in lines if not line.startswith("#")]


TEXTS = [(Cause(cause), text) for cause, _, text in (line.partition(": ") for line in lines_of("pull-errors.txt"))]
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


def speaks_of_itself(text: str) -> bool:
    """Tell whether a registry that wrote this would speak of its own rules, or of its end."""
    return any(cause in OF_REGISTRIES and row.search(redact(text).words) for cause, row in ROWS)


OWN_TEXTS = [(cause, text) for cause, text in TEXTS if cause in OF_REGISTRIES]
OTHER_TEXTS = [(cause, text) for cause, text in TEXTS if not (cause in OF_REGISTRIES or speaks_of_itself(plain(text)))]


def deciding(text: str) -> int | None:
    """Return the index of the row that decides about a text."""
    redacted = redact(text)
    return next(
        (
            index
            for index, (cause, row) in enumerate(ROWS)
            if row.search(redacted.words) or (cause in OF_REGISTRIES and row.search(redacted.answers))
        ),
        None,
    )


# The table


@pytest.mark.parametrize(("expected", "text"), TEXTS)
def test_the_runtime_s_words_tell_the_cause(expected: Cause, text: str) -> None:
    """The recorded texts are those of containerd, CRI-O, Docker and the kubelet."""
    assert expected is classify("ErrImagePull", plain(text))


@pytest.mark.parametrize(("expected", "text"), TEXTS)
def test_a_back_off_keeps_the_cause(expected: Cause, text: str) -> None:
    """Since Kubernetes 1.32 a back-off's message ends with the last reason and error."""
    assert expected is classify("ImagePullBackOff", f"ErrImagePull: {plain(text)}")


@pytest.mark.parametrize("line", lines_of("pull-errors-containerd-2.3.txt"))
def test_what_containerd_2_3_writes_tells_the_cause(line: str) -> None:
    """A real node pulled from registries that fail in a hundred ways."""
    _, cause, text = line.split(": ", 2)
    assert cause == classify("ErrImagePull", text)


# How containerd 2.3 was made to fail after it had the tag: at the manifest, the config, a layer or their storage.
AT_PARTS = {
    *("get500", "hang-get", "indexmissing", "wrongmanifest", "redirectdead", "redirectdns", "redirect403"),
    *("config404", "layer401", "layer403", "layer429", "layerreset", "biglayerhang"),
}


def test_a_text_tells_that_a_part_of_the_image_failed() -> None:
    """So Saffire knows when the answer for the tag is no answer to what the node asked."""
    lines = [line.split(": ", 2) for line in lines_of("pull-errors-containerd-2.3.txt")]
    assert {how for how, _, text in lines if names_part(text)} == AT_PARTS


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (True, "reading blob sha256:5: fetching blob: StatusCode: 520"),
        (True, "parsing image configuration: fetching blob: StatusCode: 520"),
        (True, 'reading config blob sha256:5: Get "https://cdn.quay.io/x": EOF'),
        (True, 'writing blob: storing blob to file "/var/tmp/1": happened during read: unexpected EOF'),
        (True, "copying system image from manifest list: reading manifest sha256:5 in quay.io/acme/web: HTTP 503"),
        (True, 'error pulling image configuration: Get "https://cdn/x": dial tcp 1.2.3.4:443: i/o timeout'),
        (True, "download failed after attempts=6: dial tcp: lookup cdn: no such host"),
        (True, 'failed to pull and unpack image "quay.io/a/b:1": ref layer-sha256:5 locked for 5m0s (since 2026)'),
        (True, 'failed to pull and unpack image "quay.io/a/b:1": ref layer-sha256:5 locked: unavailable'),
        (False, "reading manifest v1 in quay.io/acme/web: received unexpected HTTP status: 503 Service Unavailable"),
        (False, 'pinging container registry quay.io: Get "https://quay.io/v2/": dial tcp: connection refused'),
        (False, 'failed to resolve reference "quay.io/a/b:1": Head "https://quay.io/v2/": context canceled'),
        (False, ""),
    ],
)
def test_other_runtimes_tell_it_in_words_of_their_own(expected: bool, words: str) -> None:  # noqa: FBT001
    """These are words of CRI-O, Docker and older versions of containerd."""
    assert expected == names_part(words)


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


def _familiar(text: str, word: str) -> str:
    """Return a recorded text with one word as the whole path of a familiar name, and as its tag."""
    return text.format(host="docker.io", path=word.lower(), tag=word, digest=64 * "4")


# Most names are redacted: in these texts, a name of one word is left.
_WITH_NAMES = [(cause, text) for cause, text in TEXTS if "acme-web" in redact(_familiar(text, "acme-web")).words]


@pytest.mark.parametrize(("expected", "text"), _WITH_NAMES)
def test_no_word_of_the_table_decides_as_a_name(expected: Cause, text: str) -> None:
    """It does not even if it is a tag, or the whole path of a familiar name."""
    words = (*_WORDS, *_PHRASES, "EOF", "SignatureValidationFailed", "Forbidden")
    assert [] == [word for word in words if classify("ErrImagePull", _familiar(text, word)) is not expected]


@given(recorded_text=st.sampled_from(TEXTS), quoted=st.sampled_from(TEXTS), closed=st.booleans())
def test_a_quotation_does_not_decide(
    recorded_text: tuple[Cause, str], quoted: tuple[Cause, str], *, closed: bool
) -> None:
    """A page that a registry sent, complete or clipped, does not outweigh the words of the runtime."""
    page = plain(quoted[1]).replace("\\", "\\\\").replace('"', '\\"')
    error = f'{plain(recorded_text[1])}: "<html>{page}' + ('"' if closed else "")
    assert recorded_text[0] is classify("ErrImagePull", error)


@given(st.sampled_from(TEXTS), st.sampled_from([" - Server message: ", "\n", " "]))
def test_a_registry_s_text_after_its_own_error_does_not_decide(recorded_text: tuple[Cause, str], mark: str) -> None:
    """The registry answered with a status; a full disk in its text is the registry's, not the node's."""
    answer = plain('failed to resolve reference "{host}/{path}:{tag}": unexpected status: 500 Internal Server Error')
    error = f"{answer}{mark}unknown: {plain(recorded_text[1])}"
    assert Cause.SERVER_ERROR is classify("ErrImagePull", error)


@given(st.sampled_from(OTHER_TEXTS), st.sampled_from([" - Server message: ", "\n", " "]))
def test_a_registry_s_text_after_a_denial_does_not_decide(recorded_text: tuple[Cause, str], mark: str) -> None:
    """Whatever it writes of the node, of the image or of another registry, it has denied the image."""
    page = plain(recorded_text[1])
    status = plain('failed to resolve reference "{host}/{path}:{tag}": unexpected status: 403 Forbidden') + mark
    answers = (f"{status}denied: {page}", f"{status}{page}", f"Error response from daemon: denied: {page}")
    assert [Cause.DENIED] * 3 == [classify("ErrImagePull", answer) for answer in answers]


@given(st.sampled_from(OWN_TEXTS))
def test_a_registry_may_tell_its_own_rules_and_its_end(recorded_text: tuple[Cause, str]) -> None:
    """So Saffire knows why an answer such as 412 was given."""
    status = "unexpected status from GET request to https://quay.io/v2/acme/web/manifests/v1: 412 Precondition Failed"
    assert recorded_text[0] is classify("ErrImagePull", f"{status}\nunknown: {plain(recorded_text[1])}")


@pytest.mark.parametrize("second", [plain(text) for _, text in OTHER_TEXTS])
def test_a_registry_cannot_add_an_error(second: str) -> None:
    """Only the kubelet makes a list of errors, and such a list begins with a bracket."""
    denial = "Error response from daemon: denied: sorry"
    assert Cause.DENIED is classify("ErrImagePull", f"{denial}, {second}]")


# Mirrors


@given(st.sampled_from(TEXTS), st.sampled_from(TEXTS))
def test_of_mirrors_and_source_the_source_decides(source: tuple[Cause, str], mirror: tuple[Cause, str]) -> None:
    """CRI-O writes the errors of the mirrors in front; what a mirror lacks does not tell why the source failed."""
    assume("Mirrors also failed" not in mirror[1])  # a mirror has no mirrors
    mirrors = "\n".join(f"[mirror{number}.example.com/foo: {plain(mirror[1])}]" for number in (1, 2))
    error = f"(Mirrors also failed: {mirrors}): quay.io/acme/web:v1: {plain(source[1])}"
    assert source[0] is classify("ErrImagePull", error)


def test_nothing_is_known_of_a_source_that_was_clipped() -> None:
    """A kubelet clips the text of an Event."""
    assert Cause.UNKNOWN is classify("ErrImagePull", "(Mirrors also failed: [mirror.example.com/foo: manifest unknown")


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
        "(Mirrors also failed: [",
        "]): ",
        "[e, failed to ",
        "unknown: ",
        "503 A",
        "HTTP 404 ",
        "from manifest list ",
        "blocked by a ",
        "locked for 1s (since ",
        "registry is and ",
        "C:\\",
        "open <> ",
        "a",
    ):
        yield piece * 200_000
    for cause, text in RECORDED.items():
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
