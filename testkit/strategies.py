"""What Hypothesis generates: references, sources, pods with their owners, histories, and JSON of any shape."""

from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from saffire.kube.workload import Owners
from saffire.policy.decide import Gathered
from saffire.policy.history import ANNOTATION, Entry, History
from saffire.policy.reach import Fault
from saffire.pulls.failure import PullFailure, find_pull_failures
from saffire.registry.reference import Reference, Repository, parse_repository
from saffire.sources.spec import Source
from testkit.builders import FAILING, NOW, OPT_OUT, SECOND, THIRD, Object, annotated, chain, pod, source, waiting

# Hypothesis gets no deadline, since a slow machine is no fault of the code under test.
settings.register_profile("saffire", settings.default, deadline=None)
settings.load_profile("saffire")

_LOWER = "abcxyz019"
_WORD = st.text(_LOWER, min_size=1, max_size=5)
_SEPARATOR = st.sampled_from([".", "_", "__", "-", "--", "----"])
KINDS = ("Deployment", "ReplicaSet", "ReplicationController", "StatefulSet", "DaemonSet", "CronJob", "Job", "Pod")


@st.composite
def _components(draw: DrawFn) -> str:
    """Draw a component of a repository's path: words, with the separators that are allowed between them."""
    parts = [draw(_WORD)]
    for separator in draw(st.lists(_SEPARATOR, max_size=2)):
        parts += [separator, draw(_WORD)]
    return "".join(parts)


@st.composite
def domains(draw: DrawFn) -> str:
    """Draw a domain as image references have it, with or without a port, but not the domain of Docker Hub."""
    label = st.text(_LOWER + "AZ", min_size=1, max_size=4)
    host = draw(
        st.one_of(
            st.sampled_from(["localhost", "quay.io", "10.0.0.1", "[::1]", "[2001:db8::1]", "Docker", "xn--n3h.com"]),
            st.lists(label, min_size=2, max_size=4).map(".".join),
        )
    )
    return host + draw(st.sampled_from(["", ":5000", ":443"]))


paths = st.lists(_components(), min_size=1, max_size=4).map("/".join)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
digests = st.sampled_from([("sha256", 64), ("sha384", 96), ("sha512", 128)]).flatmap(
    lambda form: st.text("0123456789abcdef", min_size=form[1], max_size=form[1]).map(lambda text: f"{form[0]}:{text}")
)
suffixes = st.tuples(
    st.one_of(st.just(""), tags.map(lambda tag: f":{tag}")),
    st.one_of(st.just(""), digests.map(lambda digest: f"@{digest}")),
).map("".join)


def repository_texts() -> SearchStrategy[str]:
    """Draw repositories as users write them: with a domain, or of Docker Hub in full and in Docker's short forms."""
    hub = st.sampled_from(["", "docker.io/", "index.docker.io/", "registry-1.docker.io/", "Registry.Hub.Docker.com/"])
    return st.one_of(
        st.builds("{}/{}".format, domains(), paths),
        st.builds("{}library/{}".format, hub, _components()),
        # If a repository has no domain, the first component of its path must not look like a domain.
        st.builds("{}{}/{}".format, hub, _WORD.filter(lambda word: word != "localhost"), _components()),
        st.builds("{}{}".format, hub, _components()),
    )


def reference_texts() -> SearchStrategy[str]:
    """Draw image references as users write them."""
    return st.builds("{}{}".format, repository_texts(), suffixes)


def repositories() -> SearchStrategy[Repository]:
    """Draw repositories in their normalised form, as Saffire compares them."""
    return repository_texts().map(lambda text: parse_repository(str(parse_repository(text))))


def references() -> SearchStrategy[Reference]:
    """Draw image references in their normalised form, in which Docker's short forms are spelled out."""
    tag, digest = st.one_of(st.just(""), tags), st.one_of(st.just(""), digests)
    return st.builds(Reference, repository=repositories(), tag=tag, digest=digest)


# The repositories are so few that the sets of sources overlap, and that sets list the references that are drawn.
_FEW = ("quay.io/acme/web", "ghcr.io/acme/web", "r.example:5000/acme/web", "nginx", "docker.io/acme/web", "quay.io/web")
_FEW_PREFIXES = ("quay.io/acme/*", "ghcr.io/*", "r.example:5000/mirror/acme/*", "acme/*", "docker.io/*", "library/*")


def equivalents() -> SearchStrategy[list[str]]:
    """Draw one set of equivalent repositories, or one set of prefixes, from a few that overlap."""
    return st.one_of(
        *(st.lists(st.sampled_from(few), min_size=2, max_size=4, unique=True) for few in (_FEW, _FEW_PREFIXES))
    )


@st.composite
def sources(draw: DrawFn) -> Source:
    """
    Draw a valid source.

    About half of the sources list `FAILING`, `SECOND` and `THIRD` of `builders`; the others have sets that are drawn.
    """
    spec = {
        "mode": draw(st.sampled_from(["Enforce", "Enforce", "Enforce", "Observe", "Paused"])),
        "strategy": draw(st.sampled_from(["Controller", "Pods"])),
        "verification": draw(st.sampled_from(["BestEffort", "Off", "Off", "Strict"])),
    }
    sets = draw(st.one_of(st.just([]), st.lists(equivalents(), min_size=1, max_size=3)))
    return source(*sets, name=draw(st.sampled_from(["a", "b", "c"])), **spec)


def known_references() -> SearchStrategy[Reference]:
    """Draw image references that the sources of `sources` probably list."""
    listed = ("quay.io/acme/api", "ghcr.io/acme/web", "acme/web", "redis", *_FEW)
    return st.builds("{}{}".format, st.sampled_from(listed), suffixes).map(Reference.parse)


def moments() -> SearchStrategy[datetime]:
    """Draw times of the two hours before `NOW`, many of them in the last minute, in whole seconds as in annotations."""
    return st.one_of(st.integers(-60, 0), st.integers(-7200, 0)).map(lambda seconds: NOW + timedelta(seconds=seconds))


def histories() -> SearchStrategy[History]:
    """Draw the history of an object: at most 20 failovers, oldest first."""
    image = st.sampled_from([FAILING, SECOND, SECOND, THIRD, THIRD, "nginx", "ünïcode"])
    entry = st.builds(
        Entry,
        container=st.sampled_from(["web", "web", "sidecar"]),
        before=image,
        after=image,
        at=moments(),
        source=st.text(max_size=5),
        proof=st.just("unverified"),
        fault=st.sampled_from(["", *Fault]),
    )
    ordered = st.lists(entry, max_size=20).map(lambda entries: sorted(entries, key=lambda entry: entry.at))
    return ordered.map(lambda entries: History(tuple(entries)))


@st.composite
def owners(draw: DrawFn, image: str) -> Owners:
    """
    Draw the owners of a pod whose container `web` has the image `image`.

    The template of the highest owner has the same image, has another image, or has no container `web`. The templates of
    the other owners have the same image.
    """
    kind = draw(st.sampled_from(KINDS))
    own = {"web": image}
    template = draw(st.sampled_from([own, own, own, {"web": SECOND}, {"other": image}]))
    seen = [_marked(draw, owner) for owner in (*chain(kind, **own).chain[:-1], *chain(kind, **template).chain[-1:])]
    if kind == "Deployment":
        seen[-1]["spec"]["strategy"] = draw(st.sampled_from([{"type": "Recreate"}, {"type": "RollingUpdate"}]))
    return Owners(chain=tuple(seen))


@st.composite
def gathered_failures(draw: DrawFn) -> tuple[PullFailure, Gathered]:
    """Draw a pod whose container `web` cannot pull its image; give the pull failure, and what Saffire has gathered."""
    image = draw(st.sampled_from([FAILING, FAILING, FAILING, "nginx", "ghcr.io/acme/web:2", "elsewhere.example/web"]))
    failing = _marked(draw, pod(waiting(image=image), web=image, other=image))
    gathered = Gathered(
        namespace=annotated({"metadata": {"name": "shop"}}, draw(_opt_outs)),
        pod=failing,
        sources=tuple(draw(st.lists(sources(), min_size=1, max_size=3))),
        owners=draw(owners(image)),
    )
    return find_pull_failures(failing)[0], gathered


_opt_outs = st.sampled_from([{}] * 30 + [OPT_OUT])


def _marked(draw: DrawFn, manifest: Any) -> Object:
    """Return the object with annotations that are drawn: an opt-out, a history, both, or neither."""
    history = draw(st.one_of(st.none(), histories()))
    annotations = draw(_opt_outs) | ({ANNOTATION: history.rendered()} if history else {})
    return annotated(dict(manifest), annotations) if annotations else dict(manifest)


def json_values() -> SearchStrategy[Any]:
    """Draw any JSON value; many have keys and texts as in manifests."""
    key = st.one_of(st.sampled_from(["name", "namespace", "uid", "kind", "items"]), st.text(max_size=4))
    leaf = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from(["", "../../secrets", "a/b", "a%2fb", "Pod", "v1", "\x00", "\ud800", "x" * 300]),
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(key, inner, max_size=3)),
        max_leaves=5,
    )


def paths_into(document: Any) -> SearchStrategy[tuple[Any, ...]]:
    """Draw the path to any value inside `document`, including the document itself."""
    return st.sampled_from(list(ways(document, ())))


def ways(value: Any, way: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Return the paths to `value` and to every value inside it; `way` is the path to `value`, which comes first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(inner_way for key, below in inner for inner_way in ways(below, (*way, key)))]


def replaced(document: Any, way: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of `document` with `value` at the path `way`."""
    if not way:
        return value
    key, *rest = way
    if isinstance(document, list):
        return [replaced(old, tuple(rest), value) if index == key else old for index, old in enumerate(document)]
    return {**document, key: replaced(document[key], tuple(rest), value)}
