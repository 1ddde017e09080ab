"""Our client against a real registry (CNCF distribution), and skopeo as a second opinion on what we push."""

import base64
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import issue
from docker_registry import PASSWORD, USER, DockerRegistry, docker_registry, required
from http_rig import credentials_file

from appliance.model_spec import Card, ModelFile, ModelSpec
from appliance.registry.http.options import HttpOptions
from appliance.registry.http.source import HttpSource
from appliance.registry.http.target import HttpTarget
from appliance.registry.sources.base import Source, Target
from appliance.registry.sources.failures import Absent, Refused
from appliance.registry.sources.layout import LayoutSource
from appliance.store import manifest
from appliance.store.manifest import Artefact, Layer, digest_of

required("docker-registry", "skopeo")

PLACE = "acme/models/echo"
WEIGHTS = random.Random(11).randbytes(3_000_000)
BYTES_MAX = 100_000


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("plain")) as running:
        yield running


def artefact(weights: bytes = WEIGHTS) -> Artefact:
    """A model with one file, as the publisher builds it."""
    layer = Layer("model.bin", "model", len(weights), digest_of(weights).removeprefix("sha256:"))
    card = Card("MIT", "made by this test", "tests", "none")
    spec = ModelSpec("echo", "1.0.0", "fake", (ModelFile("model.bin", "model"),), card)
    return manifest.build(spec, [layer])


def push(target: Target, place: str = PLACE) -> Artefact:
    made = artefact()
    for data in (WEIGHTS, made.config_bytes):
        target.put_blob(place, digest_of(data), len(data), lambda data=data: [data[:1_000_000], data[1_000_000:]])  # type: ignore[misc]
        assert target.has_blob(place, digest_of(data))
    for reference in ("1.0.0", made.digest):
        target.put_manifest(place, reference, manifest.MANIFEST_TYPE, made.manifest_bytes)
    return made


def read(source: Source, digest: str, offset: int = 0, validator: str = "") -> tuple[int, bytes, str]:
    with source.blob(PLACE, digest, offset=offset, validator=validator) as blob:
        pieces = []
        while piece := blob.read(1 << 20):
            pieces.append(piece)
    return blob.offset, b"".join(pieces), blob.validator


def check(source: Source, made: Artefact) -> None:
    """All that a box does with it."""
    found = source.manifest(PLACE, "1.0.0", bytes_max=BYTES_MAX)
    assert found is not None
    assert (found.data, found.digest) == (made.manifest_bytes, made.digest)
    assert source.manifest(PLACE, made.digest, bytes_max=BYTES_MAX) is not None
    assert list(source.tags(PLACE)) == ["1.0.0"]
    offset, data, _ = read(source, digest_of(WEIGHTS))
    assert (offset, data) == (0, WEIGHTS)


def test_push_and_pull(plain: DockerRegistry) -> None:
    options = HttpOptions(url=plain.url)
    target, source = HttpTarget(options), HttpSource(options)
    assert list(source.tags("acme/none")) == []
    with pytest.raises(Absent):
        source.manifest("acme/none", "1", bytes_max=BYTES_MAX)
    made = push(target)
    check(source, made)
    found = source.manifest(PLACE, "1.0.0", bytes_max=BYTES_MAX)
    assert found is not None
    assert found.validator
    assert source.manifest(PLACE, "1.0.0", bytes_max=BYTES_MAX, validator=found.validator) is None
    weights = digest_of(WEIGHTS)
    _, _, validator = read(source, weights)
    assert validator
    assert read(source, weights, 2_999_000, validator)[:2] == (2_999_000, WEIGHTS[2_999_000:])
    # If-Range with another ETag, and a place behind the end: the whole.
    assert read(source, weights, 2_999_000, '"another"')[:2] == (0, WEIGHTS)
    assert read(source, weights, 3_000_000, validator)[:2] == (0, WEIGHTS)
    with pytest.raises(Absent):
        read(source, digest_of(b"none"))


def test_more_tags_than_a_page(plain: DockerRegistry) -> None:
    target = HttpTarget(HttpOptions(url=plain.url))
    made = push(target, "acme/many")
    for number in range(150):
        target.put_manifest("acme/many", f"0.0.{number}", manifest.MANIFEST_TYPE, made.manifest_bytes)
    assert len(HttpSource(HttpOptions(url=plain.url)).tags("acme/many")) == 151


def test_other_bytes_than_the_digest_says(plain: DockerRegistry) -> None:
    target = HttpTarget(HttpOptions(url=plain.url))
    with pytest.raises(Refused, match="DIGEST_INVALID"):
        target.put_blob(PLACE, digest_of(b"good"), 4, lambda: [b"evil"])
    assert not target.has_blob(PLACE, digest_of(b"good"))


def test_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    authority = issue("authority")
    authority.write(tmp_path, "ca")
    issue("server", authority).write(tmp_path, "server")
    with docker_registry(tmp_path / "data", tls=(tmp_path / "server.pem", tmp_path / "server.key")) as registry:
        options = HttpOptions(url=registry.url, ca=str(tmp_path / "ca.pem"))
        check(HttpSource(options), push(HttpTarget(options)))
        with pytest.raises(Refused, match="not trusted"):
            HttpSource(HttpOptions(url=registry.url)).tags(PLACE)


def test_basic_login(tmp_path: Path) -> None:
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    with docker_registry(tmp_path / "data", login=True) as registry:
        options = HttpOptions(url=registry.url, credentials=credentials_file(tmp_path, (registry.host, auth)))
        check(HttpSource(options), push(HttpTarget(options)))
        with pytest.raises(Refused, match="wants a user"):
            HttpSource(HttpOptions(url=registry.url)).tags(PLACE)
        wrong = base64.b64encode(f"{USER}:wrong".encode()).decode()
        credentials_file(tmp_path, (registry.host, wrong))
        with pytest.raises(Refused, match="does not take the user"):
            HttpSource(options).tags(PLACE)


def test_a_proxy_with_a_cold_cache_and_then_a_warm_one(tmp_path: Path) -> None:
    weights = digest_of(WEIGHTS)
    with docker_registry(tmp_path / "upstream") as upstream:
        made = push(HttpTarget(HttpOptions(url=upstream.url)))
        with docker_registry(tmp_path / "proxy", upstream=upstream.url) as proxy:
            source = HttpSource(HttpOptions(url=proxy.url))
            # Cold: Range may be ignored, and either answer is right.
            offset, data, _ = read(source, weights, 1_000_000)
            assert data == WEIGHTS[offset:]
            assert offset in (0, 1_000_000)
            check(source, made)
            assert read(source, weights, 1_000_000)[1] in (WEIGHTS, WEIGHTS[1_000_000:])


def skopeo(*words: str) -> None:
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    command = ["skopeo", "--insecure-policy", "copy", "--preserve-digests", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_skopeo_copies_our_artefact_to_a_layout_and_back(plain: DockerRegistry, tmp_path: Path) -> None:
    options = HttpOptions(url=plain.url)
    made = push(HttpTarget(options))
    skopeo("--src-tls-verify=false", f"docker://{plain.host}/{PLACE}:1.0.0", f"oci:{tmp_path / 'layout'}:1.0.0")
    check(LayoutSource(tmp_path / "layout"), made)
    with docker_registry(tmp_path / "second") as second:
        skopeo("--dest-tls-verify=false", f"oci:{tmp_path / 'layout'}:1.0.0", f"docker://{second.host}/{PLACE}:1.0.0")
        check(HttpSource(HttpOptions(url=second.url)), made)
