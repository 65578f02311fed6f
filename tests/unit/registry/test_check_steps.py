"""A table of the answers of registries, also in outages, and what each means; over real sockets, within the budget."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from saffire.registry.availability import (
    Availability,
    Available,
    Denied,
    Incomplete,
    NotFound,
    Throttled,
    Unreachable,
    Withheld,
    WrongPlatform,
)
from saffire.registry.check import Question
from testkit import scripted_registry as shapes
from testkit.check_registry import LATE, SINGLE, WEB, check, question, running_registry
from testkit.oci_images import INDEX, configured, image, index
from testkit.scripted_registry import Registry, Shape

CONFIG = SINGLE.parsed["config"]["digest"]
LAYERS = [layer["digest"] for layer in SINGLE.parsed["layers"]]
ARM_ONLY = index("linux/arm64")

NONSENSE, UNSAID = (configured(SINGLE, config) for config in (b"[]", b"{}"))
PUSHED = {
    "acme/arm:v1": image("linux/arm64"),
    "acme/other:v1": image(build="2"),
    "acme/nonsense:v1": NONSENSE,
    "acme/unsaid:v1": UNSAID,
}

HERE = Available(digest=WEB.digest, manifests=frozenset({SINGLE.digest}), suits=True)
OTHER = Available(digest=image(build="2").digest, suits=True)
ALONE = Available(digest=SINGLE.digest, suits=True)


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    """Yield a registry."""
    async with running_registry() as started:
        yield started


# The rows of the table: how the registry behaves, the question, and the expected answer. `web` is an index of two
# images, `single` an image without an index.
ROWS: dict[str, tuple[Shape | None, Question, Availability]] = {}


def row(name: str, shape: Shape | None, expected: Availability, *, of: str = "web:v1", strict: bool = False) -> None:
    """Add a row to the table."""
    ROWS[name] = (shape, question(f"127.0.0.1:1/acme/{of}", strict=strict), expected)


row("there", None, HERE)
row("there, strictly", None, replace(HERE, complete=True), strict=True)
row("an image without index", None, ALONE, of="single:v1")
row("an image without index, strictly", None, replace(ALONE, complete=True), of="single:v1", strict=True)
row("by digest", None, HERE, of=f"web@{WEB.digest}")
row("by tag and digest", None, HERE, of=f"web:v9@{WEB.digest}")
row("no such tag", None, NotFound(), of="web:v2")
row("no such repository", None, NotFound(), of="nothing:v1")
row("no such digest", None, NotFound(), of=f"web@{image(build='2').digest}")
row("metadata OK, layers hang", shapes.on("/blobs/", shapes.hang), HERE)
row("metadata OK, config hangs", shapes.on("/blobs/", shapes.hang), replace(ALONE, suits=False), of="single:v1")
row("layers hang, strictly", shapes.on("/blobs/", shapes.hang), Unreachable(f"its parts: {LATE}"), strict=True)
row("5xx on everything", shapes.status(503), Unreachable("it answered 503"))
row("500 on everything", shapes.status(500), Unreachable("it answered 500"))
for withheld in (402, 410, 412, 451):
    row(f"{withheld} on everything", shapes.status(withheld), Withheld(withheld))
row("blobs 451, strictly", shapes.on("/blobs/", shapes.status(451)), Withheld(451), strict=True)
row("slow", shapes.hang, Unreachable(LATE))
row("blobs 403", shapes.on("/blobs/", shapes.status(403)), HERE)
row("blobs 403, strictly", shapes.on("/blobs/", shapes.status(403)), Denied(), strict=True)
row("blobs 404, strictly", shapes.on(LAYERS[1], shapes.status(404)), Incomplete(f"layer {LAYERS[1]}"), strict=True)
row("config 500", shapes.on("/blobs/", shapes.status(500)), replace(ALONE, suits=False), of="single:v1")
row(
    "config 500, strictly",
    shapes.on(CONFIG, shapes.status(500)),
    Unreachable("its parts: it answered 500"),
    strict=True,
)
row("config 404", shapes.on(CONFIG, shapes.status(404)), Incomplete("config"), of="single:v1")
row("config is another", shapes.on(CONFIG, shapes.body(b"{}", "text/json")), Incomplete("config"), of="single:v1")
row(
    "HEAD of blobs is refused",
    shapes.on("/blobs/", shapes.status(403), method="HEAD"),
    replace(HERE, complete=True),
    strict=True,
)
row(
    "the platform's manifest is lost",
    shapes.on(image().digest, shapes.status(404)),
    Incomplete("manifest"),
    strict=True,
)
row(
    "401 for public images",
    shapes.status(401, {"WWW-Authenticate": 'Bearer realm="https://127.0.0.1:1/token"'}),
    Unreachable("its token endpoint: connection refused"),
)
row("401 without a challenge", shapes.status(401), Denied())
row("401 that wants a password", shapes.status(401, {"WWW-Authenticate": 'Basic realm="us"'}), Denied())
row("403", shapes.status(403), Denied())
row("429", shapes.status(429), Throttled())
row("429 for a while", shapes.status(429, {"Retry-After": "17"}), Throttled(17))
row(
    "429 until",
    shapes.status(429, {"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    Throttled(30),
)
row("429 for ever", shapes.status(429, {"Retry-After": "9" * 400}), Throttled(86400))
row("429 for nonsense", shapes.status(429, {"Retry-After": "soon"}), Throttled())
row(
    "another digest, and the header tells it",
    shapes.body(ARM_ONLY.body, INDEX, {"Docker-Content-Digest": ARM_ONLY.digest}),
    Incomplete("manifest"),
    of=f"web@{WEB.digest}",
)
row("another digest", shapes.body(ARM_ONLY.body, INDEX), Incomplete("manifest"), of=f"web@{WEB.digest}")
row(
    "the header tells another digest",
    shapes.body(WEB.body, INDEX, {"Docker-Content-Digest": ARM_ONLY.digest}),
    Incomplete("manifest"),
)
row("no Docker-Content-Digest", shapes.on("/manifests/v1", shapes.body(WEB.body, INDEX)), HERE)
row(
    "a Docker-Content-Digest of no use",
    shapes.on("/manifests/v1", shapes.body(WEB.body, INDEX, {"Docker-Content-Digest": "md5:1"})),
    HERE,
)
row("without the platform", shapes.body(ARM_ONLY.body, INDEX), WrongPlatform())
row("a single image of another platform", None, WrongPlatform(), of="arm:v1")
row("truncated manifest", shapes.body(WEB.body[:-20], INDEX), Incomplete("manifest"))
row(
    "truncated manifest with digest",
    shapes.body(WEB.body[:-20], INDEX, {"Docker-Content-Digest": WEB.digest}),
    Incomplete("manifest"),
)
row("an empty body", shapes.body(b"", INDEX), Incomplete("manifest"))
row(
    "a page",
    shapes.body(b"<html>Welcome to our Wi-Fi</html>", "text/html"),
    Unreachable("it does not answer as a registry"),
)
row(
    "JSON of another kind",
    shapes.body(b'{"hello": "world"}', "application/json"),
    Unreachable("it does not answer as a registry"),
)
row(
    "JSON without bottom",
    shapes.body(b"[" * 1_000_000, "application/json"),
    Unreachable("it does not answer as a registry"),
)
row("encoded", shapes.body(WEB.body, INDEX, {"Content-Encoding": "br"}), Unreachable("its answer is encoded"))
row("a redirect loop", shapes.redirect_loop, Unreachable("it redirects without end"))
row(
    "a redirect to plain HTTP", shapes.redirect("http://example.com"), Unreachable("it wants to be asked in plain HTTP")
)
row("a redirect to a file", shapes.redirect("file://etc"), Unreachable("it points to what is no address on the web"))
row(
    "a redirect with a password",
    shapes.redirect("https://me:you@127.0.0.1:1"),
    Unreachable("it points to what is no address on the web"),
)
row(
    "a redirect to metadata",
    shapes.redirect("https://169.254.169.254"),
    Unreachable("its address is not one that may be asked"),
)
row(
    "a redirect to loopback",
    shapes.redirect("https://[::1]:1"),
    Unreachable("its address is not one that may be asked"),
)
row(
    "a redirect to an address in disguise",
    shapes.redirect("https://[::ffff:127.0.0.1]:1"),
    Unreachable("its address is not one that may be asked"),
)
row(
    "a redirect to an octal address",
    shapes.redirect("https://0177.0.0.1:1"),
    Unreachable("its address is not spelled as one"),
)
row("a redirect to nowhere", shapes.status(307), Unreachable("it redirects without end"))
row("50 MB", shapes.huge, Unreachable("its answer is larger than 4194304 bytes"))
row("50 MB, and says so", shapes.promise, Unreachable("its answer is larger than 4194304 bytes"))
row("the right tag with another digest", None, OTHER, of="other:v1")
row("config is nonsense", None, Incomplete("config"), of="nonsense:v1")
row("config tells no platform", None, Available(digest=UNSAID.digest), of="unsaid:v1")
row("one byte a second", shapes.drip, Unreachable(LATE))
row("closed", shapes.disconnect, Unreachable("it closed the connection"))
row("an odd status", shapes.status(418), Unreachable("it answered 418"))
row(
    "a realm in plain HTTP",
    shapes.status(401, {"WWW-Authenticate": 'Bearer realm="http://example.com/"'}),
    Unreachable("its token endpoint: it wants to be asked in plain HTTP"),
)
row(
    "a realm on loopback",
    shapes.status(401, {"WWW-Authenticate": 'Bearer realm="https://localhost:1/"'}),
    Unreachable("its token endpoint: its address is not one that may be asked"),
)
row(
    "a realm in the cloud's metadata",
    shapes.status(401, {"WWW-Authenticate": 'Bearer realm="https://169.254.169.254/"'}),
    Unreachable("its token endpoint: its address is not one that may be asked"),
)
row(
    "a realm that is none",
    shapes.status(401, {"WWW-Authenticate": 'Bearer realm="https://[::/"'}),
    Unreachable("its token endpoint has no address"),
)
row(
    "a relative realm",
    shapes.status(401, {"WWW-Authenticate": 'Bearer realm="/token"'}),
    Unreachable("its token endpoint: it points to what is no address on the web"),
)


@pytest.mark.parametrize(("shape", "row_question", "expected"), ROWS.values(), ids=ROWS.keys())
async def test_an_answer_means_what_the_table_says(
    shape: Shape | None, row_question: Question, expected: Availability, registry: Registry
) -> None:
    """The registry answers, or does not; either way, the check takes no longer than its budget allows."""
    for name, content in PUSHED.items():
        registry.push(name, content)
    registry.shape = shape
    reference = row_question.reference
    repository = replace(reference.repository, domain=registry.domain)
    sent = replace(row_question, reference=replace(reference, repository=repository))
    assert expected == await check(sent, "127.0.0.1:1")
