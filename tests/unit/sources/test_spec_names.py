"""Scope: what sources are called, so that two of one name are not taken for each other."""

from saffire.sources.spec import display_name, is_cluster_wide, log_name, record_name
from testkit.builders import cluster_source_manifest, source_manifest


def test_a_namespace_s_own_source_is_called_by_its_name() -> None:
    """As histories have always called it; whoever reads of it gets its kind too."""
    own = source_manifest()
    assert ("shop", "AlternateImageSource/shop", "shop/shop") == (
        record_name(own),
        display_name(record_name(own)),
        log_name(own),
    )
    assert not is_cluster_wide(own)


def test_a_cluster_wide_source_is_called_by_kind_and_name() -> None:
    """A namespace's own source may have the same name."""
    wide = cluster_source_manifest()
    assert {"ClusterAlternateImageSource/shop"} == {record_name(wide), display_name(record_name(wide)), log_name(wide)}
    assert is_cluster_wide(wide)


def test_what_does_not_say_its_kind_is_a_namespace_s_own() -> None:
    """Only the lists of one kind are read, and each object of the other is marked as such."""
    assert not is_cluster_wide({"metadata": {"name": "shop"}})
