"""
Scope: for which namespaces a source speaks, and what records call it.

An AlternateImageSource speaks for its own namespace. A *cluster-wide* one, a ClusterAlternateImageSource, speaks for
every namespace that its selector takes, and only of repositories that no source of the namespace itself lists.
Two sources of the two kinds may have one name; records therefore name the kind of a cluster-wide one as well.
"""

from saffire.manifest import Manifest, name_of, text

API_VERSION = "saffire.fairwinds.com/v1alpha1"
NAMESPACED = "AlternateImageSource"
CLUSTER_WIDE = "ClusterAlternateImageSource"


def is_cluster_wide(source: Manifest) -> bool:
    """Tell which of the two kinds a source is of."""
    return text(source, "kind") == CLUSTER_WIDE


def called(source: Manifest) -> str:
    """
    Return what records call a source: no two that speak for one namespace are called alike.

    >>> called({"kind": "AlternateImageSource", "metadata": {"name": "shop"}})
    'shop'
    >>> called({"kind": "ClusterAlternateImageSource", "metadata": {"name": "shop"}})
    'ClusterAlternateImageSource/shop'
    """
    return f"{CLUSTER_WIDE}/{name_of(source)}" if is_cluster_wide(source) else name_of(source)


def titled(called_so: str) -> str:
    """
    Return kind and name of a source, by what records call it.

    >>> titled("shop"), titled("ClusterAlternateImageSource/shop")
    ('AlternateImageSource/shop', 'ClusterAlternateImageSource/shop')
    """
    return called_so if "/" in called_so else f"{NAMESPACED}/{called_so}"


def where(source: Manifest) -> str:
    """Return namespace and name of a source, or kind and name of a cluster-wide one: what logs call it."""
    return called(source) if is_cluster_wide(source) else f"{text(source, 'metadata', 'namespace')}/{name_of(source)}"
