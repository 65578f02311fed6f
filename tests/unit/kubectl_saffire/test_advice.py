"""Every reason for which a container hangs has a next step, and no text of the cluster gets into a command."""

import pytest

from kubectl_saffire.advice import advice_for
from kubectl_saffire.rehearsal import DOWN_TOO, OBSERVED, Fate
from saffire.policy.plan import Leave, Reason
from testkit.builders import FAILING, Object, cluster_source_manifest, source_manifest

NEVER_HANGS = {
    Reason.NO_SUCH_POD,
    Reason.NO_FAILURE,
    Reason.TERMINATING,
    Reason.FINISHED,
    Reason.ROLLOUT,
    Reason.ALREADY_MOVED,
}


def fate(reason: str, detail: str = "", *sources: Object) -> Fate:
    """Return the fate of a container that hangs."""
    return Fate(
        namespace="shop",
        workload="Deployment/web",
        container="web",
        image=FAILING,
        pods=("web-0",),
        plan=Leave(reason=Reason.NOT_LISTED, detail=detail),
        reason=reason,
        sources=sources,
    )


@pytest.mark.parametrize("reason", sorted({*Reason, OBSERVED, DOWN_TOO} - NEVER_HANGS))
def test_every_reason_has_a_next_step(reason: str) -> None:
    """A user who reads why a container hangs also reads what to do."""
    known = next((entry for entry in Reason if entry == reason), reason)
    if reason != OBSERVED:  # its plan is a failover: tests/unit/kubectl_saffire/test_rehearsal.py
        assert advice_for(fate(known)).words


def test_a_cluster_wide_source_is_named_by_its_kind() -> None:
    """It has no namespace."""
    paused = cluster_source_manifest(name="all", mode="Paused")
    patch = """kubectl patch cais all --type merge -p '{"spec": {"mode": "Enforce"}}'"""
    assert patch == advice_for(fate(Reason.PAUSED, "", paused)).command
    assert "kubectl edit cais all" == advice_for(fate(Reason.NOT_LISTED, "", paused)).command


def test_a_source_of_the_namespace_is_edited_first() -> None:
    """It has the last word."""
    own, wide = source_manifest(), cluster_source_manifest(name="all")
    assert "kubectl edit ais shop -n shop" == advice_for(fate(Reason.NOT_LISTED, "", wide, own)).command


@pytest.mark.parametrize(
    ("detail", "command"),
    [
        ("Namespace/shop", "kubectl annotate namespace shop saffire.fairwinds.com/ignore-"),
        ("StatefulSet/db", "kubectl annotate statefulset db -n shop saffire.fairwinds.com/ignore-"),
        ("Deployment/web had opted out until kubectl replaced its annotations", ""),
        ("Deployment/web; rm -rf ~", ""),
        ("Deployment/$(reboot)", ""),
    ],
)
def test_only_names_get_into_a_command(detail: str, command: str) -> None:
    """What Kubernetes would not take as a name is in no command that a user may copy."""
    assert command == advice_for(fate(Reason.OPTED_OUT, detail)).command
