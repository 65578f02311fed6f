"""Redaction: which words are names or answers; `test_wording` shows that neither decides about the cause."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.pulls.redaction import redact
from testkit.strategies import reference_texts


@pytest.mark.parametrize(
    ("expected", "error"),
    [
        ("<>: not found", "quay.io/x509:denied: not found"),
        ("a <>, b", "a quay.io/x, b"),
        ("[<>: a, <>]", "[quay.io/x: a, [::1]:5000/x]"),
        ("<> <>: EOF", 'Get "https://a/b\\"c": EOF'.replace("Get", "https://x/y")),
        ("a <>", 'a "it never ends: 503 Service Unavailable'),
        ("a <>", 'a "it ends with \\'),
        ("i/o timeout", "i/o timeout"),
        ("status [manifests <>]: HTTP 401", "status [manifests 503]: 401"),
        ("<>", "sha256:d03c"),
        ("web:lookup not found", "web:lookup not found"),
        ("<>", "web@sha256"),
        ("<vnd> not", "application/vnd.docker.distribution.manifest.v1+prettyjws not"),
        ("<> not", "text/html not"),
    ],
)
def test_names_are_redacted(expected: str, error: str) -> None:
    """Each name becomes `<>`; every other word stays, with its punctuation."""
    assert expected == redact(error).words


@given(reference_texts().filter(lambda image: "/" in image and image.strip("/") != "i/o"))
def test_a_reference_is_redacted_everywhere(image: str) -> None:
    """It may be in quotes, bare, or in a URL."""
    error = f'pull "{image}": {image}: docker://{image}, (https://{image}) failed'
    assert "pull <>: <>: <>, (<>) failed" == redact(error).words


@given(st.text())
def test_every_quotation_is_redacted(text: str) -> None:
    """Any text between quotes goes, and any text after a quote that is not closed."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    assert ["a <> b", "a <>"] == [redact(f'a "{quoted}" b').words, redact(f'a "{quoted}').words]


@pytest.mark.parametrize(
    ("words", "answers", "error"),
    [
        ("a: HTTP 503", "", "a: 503 Service Unavailable - Server message: no space left on device"),
        ("a: HTTP 503", "", "a: 503 Service Unavailable\nno space left on device"),
        ("status: HTTP 520", "", "status: 520 "),
        ("status code: HTTP 403", " sorry", "status code: 403 sorry"),
        ("parsing HTTP 404", " response body", "parsing HTTP 404 response body"),
        ("exit status 137: EOF", "", "exit status 137: EOF"),
        ("a: unknown: ", "b: c", "a: unknown: b: c"),
        ("a: manifest unknown: ", "denied: b", "a: manifest unknown: denied: b"),
        ("a: unknown", "", "a: unknown"),
        ("server message: ", "b", "server message: b"),
        ("denied: ", "unexpected status: 404 b", "denied: unexpected status: 404 b"),
    ],
)
def test_an_answer_is_taken_from_the_words(words: str, answers: str, error: str) -> None:
    """What follows the status or the code is the registry's; after a 5xx it says nothing about image or node."""
    redacted = redact(error)
    assert (words, answers) == (redacted.words, redacted.answers)


def test_each_error_of_a_list_has_its_answer() -> None:
    """A list begins with a bracket, and each error with words of the runtime."""
    error = "[a: denied: b, c, rpc error: code = Unknown desc = EOF, failed to d: 404 Not Found\ne]"
    redacted = redact(error)
    assert "[a: denied: \nrpc error: code = Unknown desc = EOF\nfailed to d: HTTP 404" == redacted.words
    assert "b, c\n\n Not Found\ne]" == redacted.answers


@pytest.mark.parametrize(
    ("expected", "error"),
    [
        ("<>: EOF", "(Mirrors also failed: [m/a: x]): quay.io/a: EOF"),
        ("a <>: EOF", "a (Mirrors also failed: [m/a: x]\n[m/b: ]]: y]): quay.io/a: EOF"),
        ("[<>: EOF, <>: EOF]", "[(Mirrors also failed: [a]): b/c: EOF, (Mirrors also failed: [a]): b/c: EOF]"),
        ("a ", "a (Mirrors also failed: [m/a: x"),
    ],
)
def test_what_is_said_of_mirrors_is_left_out(expected: str, error: str) -> None:
    """Each list of mirrors goes, up to the name of the source, or to the end of a clipped text."""
    assert expected == redact(error).words
