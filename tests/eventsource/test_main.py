"""What the command line refuses."""

import sys

import pytest

from eventsource.__main__ import main


@pytest.mark.parametrize("lease", ["saffire-source", "saffire/", "/saffire-source", "a/b/c"])
def test_a_lease_without_its_namespace_is_refused(
    lease: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A source that leads without a Lease would post beside the leader."""
    monkeypatch.setattr(sys, "argv", ["eventsource", f"--lease={lease}"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert 2 == ended.value.code
    assert "--lease: not NAMESPACE/NAME" in capsys.readouterr().err
