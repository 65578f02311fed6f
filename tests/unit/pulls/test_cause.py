"""Causes: what Saffire can do about them, and how it names them."""

import pytest

from saffire.pulls.cause import Cause, Remedy

# The remedy


@pytest.mark.parametrize(
    ("expected", "names"),
    [
        (Remedy.LEAVE, "signature policy unfit disk bad-name never-pull node proxy"),
        (Remedy.MOVE, "partial throttled tls dns refused shut-down server-error timeout reset unknown"),
        (Remedy.PROVEN, "platform denied absent client-error"),
    ],
)
def test_every_cause_has_its_remedy(expected: Remedy, names: str) -> None:
    """No repository helps, another may, or only one that is proven to have the image."""
    assert sorted(names.split()) == sorted(cause for cause in Cause if cause.remedy is expected)


def test_a_registry_is_down_in_five_ways() -> None:
    """Then no image can be pulled; with a bad certificate, a limit or a broken connection some may be."""
    assert {"dns", "refused", "shut-down", "server-error", "timeout"} == {cause for cause in Cause if cause.is_down}


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
        ("quay.io:5000 says that it has shut down", Cause.SHUT_DOWN),
        ("quay.io:5000 answers with an error of its own (5xx)", Cause.SERVER_ERROR),
        ("quay.io:5000 does not answer in time", Cause.TIMEOUT),
        ("the connection to quay.io:5000 broke off", Cause.RESET),
        ("the image of quay.io:5000 has no build for the node's platform", Cause.PLATFORM),
        ("quay.io:5000 denies the node the image, or has none of that name", Cause.DENIED),
        ("quay.io:5000 has no image of that name", Cause.ABSENT),
        ("quay.io:5000 does not accept the node's request (4xx)", Cause.CLIENT_ERROR),
        ("the pull from quay.io:5000 failed, and the node does not say why in known words", Cause.UNKNOWN),
    ],
)
def test_a_cause_that_another_registry_may_help_names_the_one_that_failed(expected: str, cause: Cause) -> None:
    """The other causes are those of the node or the image, and name no registry."""
    assert expected == cause.in_words("quay.io:5000")


def test_a_cause_of_the_node_or_the_image_names_no_registry() -> None:
    """A registry's name would lead an operator to that registry."""
    assert not any("quay.io" in cause.in_words("quay.io") for cause in Cause if cause.remedy is Remedy.LEAVE)
