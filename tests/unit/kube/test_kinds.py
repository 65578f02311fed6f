"""Kinds: which kinds run pods, and the path of their pod template."""

import pytest

from saffire.kube.kinds import InvalidKind, Kind, Kinds
from testkit.builders import workload

KINDS = Kinds()


@pytest.mark.parametrize("kind", KINDS.supported, ids=[f"{kind.group}/{kind.name}" for kind in KINDS.supported])
def test_a_kind_is_supported_in_any_version(kind: Kind) -> None:
    """All versions of a group are read alike. A kind of the same name in another group is another kind."""
    assert kind is KINDS.named(f"{kind.group}/v0" if kind.group else "v0", kind.name)
    assert KINDS.named("stranger.example/v1", kind.name) is None


def test_the_kind_of_an_object_is_read_from_its_manifest() -> None:
    """`apiVersion` and `kind` name it; an object without them has no kind."""
    kind = KINDS.of(workload("StatefulSet"))
    assert ("apps", "statefulsets") == ((kind.group, kind.plural) if kind else None)
    assert KINDS.of({}) is None
    assert KINDS.of({"apiVersion": "apps/v1", "kind": "Pod"}) is None


# Kinds that operators add


def test_operators_may_add_kinds() -> None:
    """Each is found by its group and name, and has its pod template at the path of the setting."""
    kinds = KINDS.extended("example.com/Widget=spec.template, db.example.com/Postgres = spec.podTemplate ,")
    widget, postgres = kinds.named("example.com/v1", "Widget"), kinds.named("db.example.com/v1beta1", "Postgres")
    assert (("spec", "template"), ("spec", "podTemplate")) == (
        widget and widget.template,
        postgres and postgres.template,
    )
    assert [True, True] == [kind.is_foreign for kind in (widget, postgres) if kind]
    assert set(KINDS.supported) < set(kinds.supported)


def test_operators_may_add_a_kind_without_a_template() -> None:
    """Its controller makes pods by rules of its own: Saffire only reads its objects."""
    kind = KINDS.extended("example.com/Widget").named("example.com/v1", "Widget")
    assert (None, True, False) == ((kind.template, kind.is_foreign, kind.is_top_level) if kind else None)


def test_nothing_added_changes_nothing() -> None:
    """An empty setting adds no kinds."""
    assert KINDS == KINDS.extended("") == KINDS.extended(" , ")


def test_a_foreign_kind_may_get_another_path() -> None:
    """A fork of a supported kind may have its pod template elsewhere."""
    kind = KINDS.extended("argoproj.io/Rollout=spec.workload").named("argoproj.io/v1", "Rollout")
    assert ("spec", "workload") == (kind.template if kind else None)


@pytest.mark.parametrize(
    ("expected", "setting"),
    [
        pytest.param("'Widget': wants group/Kind=path.of.template", "Widget=spec.template", id="no-group"),
        pytest.param("'a/b/Widget': wants", "a/b/Widget=spec.template", id="two-groups"),
        pytest.param("'Example.com/Widget': wants", "Example.com/Widget=spec", id="group-in-capitals"),
        pytest.param("'example.com/widget': wants", "example.com/widget=spec", id="not-a-kind"),
        pytest.param("wants group/Kind", "example.com/W\x00=spec", id="control-character"),
        pytest.param("example.com/Widget: wants the path", "example.com/Widget=", id="no-path"),
        pytest.param("example.com/Widget: wants the path", "example.com/Widget=spec..template", id="empty-field"),
        pytest.param("example.com/Widget: wants the path", "example.com/Widget=spec/template", id="not-dotted"),
        pytest.param("example.com/Widget: wants the path", "example.com/Widget=" + 8 * "a." + "a", id="too-deep"),
        pytest.param("names a kind twice", "example.com/Widget=a,example.com/Widget=b", id="twice"),
        pytest.param("Kubernetes's own kinds", "apps/Deployment=spec", id="Kubernetes's-own"),
        pytest.param("at most 64", ",".join(f"example.com/W{number}=spec" for number in range(65)), id="too-many"),
    ],
)
def test_a_kind_that_makes_no_sense_is_refused(expected: str, setting: str) -> None:
    """The message names the form that the setting needs."""
    with pytest.raises(InvalidKind, match=expected):
        KINDS.extended(setting)
