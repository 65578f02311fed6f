"""Images that a test pushes to a real registry: others than those that run, or with blobs that get lost."""

import io
import json
import tarfile

import aiohttp

from playground.node.registries import Registry
from testkit.oci_images import Image, digest_of

PASSWORDS = "alice:$2y$04$abcdefghijklmnopqrstuuFuhxWRTXIsURoluSTZ1N4tYaWGn9oOi\n"
USER, PASSWORD = "alice", "opensesame"


async def push(registry: Registry, name: str, image: Image, authorization: str = "") -> None:
    """Push an image with all that it names, as the distribution specification says."""
    path, _, tag = name.partition(":")
    root = f"http://{registry.domain}/v2/{path}"
    credentials = {"Authorization": authorization} if authorization else {}
    async with aiohttp.ClientSession(headers=credentials, raise_for_status=True) as session:
        for digest, blob in image.blobs.items():
            async with session.post(f"{root}/blobs/uploads/") as begun:
                url = begun.headers["Location"]
            async with session.put(f"{url}&digest={digest}", data=io.BytesIO(blob)):
                pass
        manifests = {manifest.digest: manifest for manifest in image.manifests.values()} | {tag: image}
        for reference, manifest in manifests.items():
            headers = {"Content-Type": manifest.media_type}
            async with session.put(f"{root}/manifests/{reference}", data=manifest.body, headers=headers):
                pass


async def lose(registry: Registry, path: str, digest: str) -> None:
    """Delete a blob from a registry."""
    async with (
        aiohttp.ClientSession(raise_for_status=True) as session,
        session.delete(f"http://{registry.domain}/v2/{path}/blobs/{digest}"),
    ):
        pass


async def grown(registry: Registry, name: str, words: str) -> Image:
    """Return an image of a registry with one more layer, which has a file with these words: no node has it yet."""
    path, _, tag = name.partition(":")
    root = f"http://{registry.domain}/v2/{path}"
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        async with session.get(f"{root}/manifests/{tag}", headers=accept) as response:
            manifest = json.loads(await response.read())
        blobs = {}
        for part in (manifest["config"], *manifest["layers"]):
            async with session.get(f"{root}/blobs/{part['digest']}") as response:
                blobs[part["digest"]] = await response.read()
    config = json.loads(blobs.pop(manifest["config"]["digest"]))
    layer = _layer(words)
    config["rootfs"]["diff_ids"].append(digest_of(layer))
    config["history"] = [*config.get("history", ()), {"created_by": "one layer more"}]
    written = json.dumps(config).encode()
    manifest["config"] |= {"digest": digest_of(written), "size": len(written)}
    kind = "application/vnd.oci.image.layer.v1.tar"
    manifest["layers"].append({"mediaType": kind, "digest": digest_of(layer), "size": len(layer)})
    blobs |= {digest_of(written): written, digest_of(layer): layer}
    return Image(media_type=accept["Accept"], body=json.dumps(manifest).encode(), blobs=blobs)


def _layer(words: str) -> bytes:
    """Return a layer with one file."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        file = tarfile.TarInfo("words")
        file.size = len(words.encode())
        archive.addfile(file, io.BytesIO(words.encode()))
    return made.getvalue()
