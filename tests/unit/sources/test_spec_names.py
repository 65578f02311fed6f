"""The names of sources in records, in logs and for people: two of one name are told apart by their kind."""

from saffire.sources.spec import display_name, is_cluster_wide, log_name, record_name
from testkit.builders import cluster_source_manifest, source_manifest


def test_records_name_a_namespace_s_own_source_by_its_name_alone() -> None:
    """Histories have always named it so; texts for people add the kind."""
    own = source_manifest()
    assert ("shop", "AlternateImageSource/shop", "shop/shop") == (
        record_name(own),
        display_name(record_name(own)),
        log_name(own),
    )
    assert not is_cluster_wide(own)


def test_records_name_a_cluster_wide_source_by_kind_and_name() -> None:
    """A namespace's own source may have the same name."""
    manifest = cluster_source_manifest()
    names = {record_name(manifest), display_name(record_name(manifest)), log_name(manifest)}
    assert {"ClusterAlternateImageSource/shop"} == names
    assert is_cluster_wide(manifest)


def test_an_object_without_a_kind_is_a_namespace_s_own_source() -> None:
    """A list's objects carry no kind, so the store adds it."""
    assert not is_cluster_wide({"metadata": {"name": "shop"}})
