"""Redaction: which words are names; `test_cause` shows that no name decides about the cause."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.pulls.cause import redact
from testkit.strategies import reference_texts


@pytest.mark.parametrize(
    ("expected", "error"),
    [
        ("<>: not found", "quay.io/x509:denied: not found"),
        ("a <>, b", "a quay.io/x, b"),
        ("<> <>: EOF", 'Get "https://a/b\\"c": EOF'.replace("Get", "https://x/y")),
        ("a <>", 'a "it never ends: 503 Service Unavailable'),
        ("a <>", 'a "it ends with \\'),
        ("i/o timeout", "i/o timeout"),
        ("[manifests <>]: 401", "[manifests 503]: 401"),
        ("<>", "sha256:d03c"),
        ("web:lookup not found", "web:lookup not found"),
        ("<>", "web@sha256"),
    ],
)
def test_names_are_redacted(expected: str, error: str) -> None:
    """Each name becomes `<>`; every other word stays, with its punctuation."""
    assert expected == redact(error)


@given(reference_texts().filter(lambda image: "/" in image and image.strip("/") != "i/o"))
def test_a_reference_is_redacted_everywhere(image: str) -> None:
    """It may be in quotes, bare, or in a URL."""
    error = f'pull "{image}": {image}: docker://{image}, (https://{image}) failed'
    assert "pull <>: <>: <>, <>) failed" == redact(error)


@given(st.text())
def test_every_quotation_is_redacted(text: str) -> None:
    """Any text between quotes goes, and any text after a quote that is not closed."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    assert ["a <> b", "a <>"] == [redact(f'a "{quoted}" b'), redact(f'a "{quoted}')]


@pytest.mark.parametrize("mark", [" - Server message: ", "\n"])
def test_a_registry_s_text_after_its_status_is_left_out(mark: str) -> None:
    """It is left out up to the error of the next credential, if there is one."""
    assert "503 Service Unavailable" == redact(f"503 Service Unavailable{mark}no space left on device")
    error = f"[503 Service Unavailable{mark}no space left, rpc error: code = Unknown desc = EOF]"
    assert "[503 Service Unavailable, rpc error: code = Unknown desc = EOF]" == redact(error)
