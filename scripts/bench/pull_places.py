"""Where scripts/bench_pull pulls from: an OCI image layout, or Debian's docker-registry over HTTP or HTTPS on loopback."""

import contextlib
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from appliance.registry.http.options import HttpOptions
from appliance.registry.http.target import HttpTarget
from appliance.registry.sources.base import Target
from appliance.registry.sources.layout_target import LayoutTarget
from appliance.store import manifest
from appliance.store.manifest import Descriptor, Manifest

REPOSITORY, TAG = "bench/models/large", "1.0.0"
KINDS = ("layout", "http", "https")
_PIECE_BYTES = 1_000_000


class Place(NamedTuple):
    """``ours``: what bench.pull_client takes; ``theirs``: the words of `skopeo copy` for the same artefact."""

    ours: tuple[str, str]
    theirs: tuple[str, ...]
    total: int


@contextlib.contextmanager
def serving(kind: str, folder: Path, files: int, mb: int) -> Iterator[Place]:
    """An artefact of ``files`` files and ``mb`` * 10^6 random bytes. ``kind``: of KINDS. Raises RuntimeError."""
    if kind == "layout":
        layout = folder / "layout"
        total = put(LayoutTarget(layout), files, mb)
        yield Place((str(layout), ""), (f"oci:{layout}:{REPOSITORY}:{TAG}",), total)
        return
    # The tests' own helpers: here they are wanted only for this.
    from docker_registry import docker_registry

    ca = ""
    tls = None
    if kind == "https":
        ca, tls = _certificates(folder)
    with docker_registry(folder / "registry", tls=tls) as registry:
        target = HttpTarget(HttpOptions(url=registry.url, ca=ca))
        total = put(target, files, mb)
        target.close()
        trusting = f"--src-cert-dir={Path(ca).parent}" if ca else "--src-tls-verify=false"
        yield Place((registry.url, ca), (trusting, f"docker://{registry.host}/{REPOSITORY}:{TAG}"), total)


def _certificates(folder: Path) -> tuple[str, tuple[Path, Path]]:
    from certificates import issue

    # skopeo takes all *.crt of a folder for authorities, and wants nothing else in it.
    own = folder / "authority"
    own.mkdir()
    authority = issue("authority")
    (own / "ca.crt").write_bytes(authority.pem)
    issue("server", authority).write(folder, "server")
    return str(own / "ca.crt"), (folder / "server.pem", folder / "server.key")


def put(target: Target, files: int, mb: int) -> int:
    """Random files; their bytes together."""
    target.put_blob(REPOSITORY, manifest.digest_of(b"{}"), 2, lambda: (b"{}",))
    layers = []
    for number in range(files):
        pieces = partial(_pieces, number, max(1, mb // files))
        digest, size = manifest.new_sha256(), 0
        for piece in pieces():
            digest.update(piece)
            size += len(piece)
        layer = Descriptor(
            manifest.WEIGHT_TYPE,
            f"sha256:{digest.hexdigest()}",
            size,
            annotations={manifest.FILE_PATH: f"part-{number}"},
        )
        target.put_blob(REPOSITORY, layer.digest, layer.size, pieces)
        layers.append(layer)
    config = Descriptor(manifest.CONFIG_TYPE, manifest.digest_of(b"{}"), 2)
    made = Manifest(manifest.MANIFEST_TYPE, config, tuple(layers), manifest.ARTIFACT_TYPE, schema_version=2)
    target.put_manifest(REPOSITORY, TAG, manifest.MANIFEST_TYPE, manifest.canonical(made))
    return sum(layer.size for layer in layers)


def _pieces(seed: int, count: int) -> Iterator[bytes]:
    made = random.Random(seed)
    return (made.randbytes(_PIECE_BYTES) for _ in range(count))
