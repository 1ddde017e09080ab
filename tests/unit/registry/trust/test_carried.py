"""A TUF file as an OCI artefact: what goes in comes out, and nothing hostile does."""

import base64
import contextlib
import json
from typing import Any

import pytest

from appliance import limits
from appliance.registry.sources.failures import Malformed
from appliance.registry.trust import carried
from appliance.store.manifest import Descriptor, digest_of


@pytest.mark.parametrize("name", ["timestamp.json", "7.root.json", "3.models.iris-2_b.json"])
@pytest.mark.parametrize("size", [1, 500, limits.tuf_inline_bytes_max])
def test_a_small_file_is_in_its_manifest(name: str, size: int) -> None:
    data = b"x" * size
    made = carried.encode(name, data)
    assert made.tag == name
    assert made.blobs == (b"{}", data)
    assert carried.decode(made.manifest) == data
    assert carried.encode(name, data) == made
    assert len(made.manifest) <= limits.tuf_manifest_bytes_max


@pytest.mark.parametrize("size", [limits.tuf_inline_bytes_max + 1, limits.tuf_file_bytes_max])
def test_a_large_file_is_a_blob(size: int) -> None:
    data = b"x" * size
    made = carried.encode("targets.json", data)
    assert carried.decode(made.manifest) == Descriptor(carried.FILE_TYPE, digest_of(data), size)
    assert len(made.manifest) < 1000


def test_it_is_an_artefact_as_the_image_specification_has_it() -> None:
    manifest = json.loads(carried.encode("timestamp.json", b"{}").manifest)
    assert manifest["schemaVersion"] == 2
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["artifactType"] == "application/vnd.inference-appliance.tuf.v1+json"
    assert manifest["config"] == {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "size": 2,
        "data": "e30=",
    }
    assert manifest["layers"][0]["mediaType"] == "application/vnd.tuf.metadata+json"


@pytest.mark.parametrize(
    "name",
    ["", "x", ".json", "-a.json", "a/b.json", "../a.json", "a b.json", "ä.json", "a.json\n", "a" * 124 + ".json"],
)
def test_names_that_are_no_tag(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the tag"):
        carried.encode(name, b"{}")
    assert not carried.is_file_name(name)


@pytest.mark.parametrize("size", [0, limits.tuf_file_bytes_max + 1])
def test_files_that_are_none(size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} bytes"):
        carried.encode("root.json", b"x" * size)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


GOOD = b'{"signed": 1}'
HUGE = limits.tuf_file_bytes_max + 1
LAYERS: list[tuple[str, dict[str, Any]]] = [
    ("another digest", {"digest": digest_of(b"other")}),
    ("no digest", {"digest": "sha256:"}),
    ("another algorithm", {"digest": "sha512:" + "0" * 128}),
    ("a path as a digest", {"digest": "sha256:" + "../" * 21 + "x"}),
    ("too short", {"size": len(GOOD) - 1}),
    ("too long", {"size": len(GOOD) + 1}),
    ("nothing", {"size": 0, "data": ""}),
    ("negative", {"size": -1}),
    ("huge", {"size": HUGE, "data": ""}),
    ("beyond 64 bits", {"size": 10**30}),
    ("a fraction", {"size": 13.5}),
    ("a text", {"size": "13"}),
    ("no base64", {"data": "!!!!"}),
    ("base64 with a line break", {"data": b64(GOOD)[:8] + "\n" + b64(GOOD)[8:]}),
    ("cut base64", {"data": b64(GOOD)[:-1]}),
    ("a number", {"data": 5}),
    ("other data", {"data": b64(b"evil")}),
    ("not in ASCII", {"data": "é" * 4}),
]


@pytest.mark.parametrize("bent", [bent for _, bent in LAYERS], ids=[name for name, _ in LAYERS])
def test_bent_layers(bent: dict[str, Any]) -> None:
    manifest = json.loads(carried.encode("timestamp.json", GOOD).manifest)
    assert carried.decode(json.dumps(manifest).encode()) == GOOD
    manifest["layers"][0].update(bent)
    with pytest.raises(Malformed):
        carried.decode(json.dumps(manifest).encode())


MANIFESTS: list[dict[str, Any]] = [
    {"layers": []},
    {"layers": "x"},
    {"layers": [None]},
    {"artifactType": "application/vnd.cncf.model.manifest.v1+json"},
    {"schemaVersion": 1},
    {"config": None},
]


@pytest.mark.parametrize("bent", MANIFESTS, ids=repr)
def test_bent_manifests(bent: dict[str, Any]) -> None:
    manifest = {**json.loads(carried.encode("timestamp.json", GOOD).manifest), **bent}
    with pytest.raises(Malformed):
        carried.decode(json.dumps(manifest).encode())


def test_two_layers_are_one_too_many() -> None:
    manifest = json.loads(carried.encode("timestamp.json", GOOD).manifest)
    manifest["layers"] *= 2
    with pytest.raises(Malformed):
        carried.decode(json.dumps(manifest).encode())


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"\xff", b"[" * 50_000, b'{"a":' * 10_000, b" " * (limits.tuf_manifest_bytes_max + 1)]
)
def test_bytes_that_are_no_manifest(data: bytes) -> None:
    with pytest.raises(Malformed):
        carried.decode(data)


def test_every_flipped_bit_of_the_file_is_seen() -> None:
    made = carried.encode("timestamp.json", GOOD).manifest
    start = made.index(b64(GOOD).encode())
    for position in range(start, start + len(b64(GOOD))):
        for bit in range(8):
            bad = bytearray(made)
            bad[position] ^= 1 << bit
            with contextlib.suppress(Malformed):
                assert carried.decode(bytes(bad)) == GOOD  # a padding bit that means nothing


@pytest.mark.parametrize(
    ("prefix", "repository"), [("acme", "acme/tuf"), ("acme/models-eu", "acme/models-eu/tuf"), ("", "tuf")]
)
def test_the_repository(prefix: str, repository: str) -> None:
    assert carried.repository_of(prefix) == repository
