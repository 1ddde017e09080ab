"""A packed model's chunk index: what is in it, that it is the same each time, and that a box can use it."""

import json
from pathlib import Path

import pytest
from delta_box import MIB, entry_of, noise
from memory_registry import MemoryRegistry

from appliance import limits
from appliance.publish import chunk_index
from appliance.registry.delta import artefact, index, rebuild, reference
from appliance.registry.delta.seeds import Seed, Seeds
from appliance.registry.sources.failures import Malformed
from appliance.store import manifest
from appliance.store.manifest import Descriptor, Manifest, digest_of

REPOSITORY = "models/press"
OLD, NEW = noise(1, 3 * MIB), noise(2, 1000) + noise(1, 3 * MIB)


def model(registry: MemoryRegistry, *layers: tuple[str, bytes]) -> Manifest:
    """With layers of these media types."""
    for _, data in layers:
        registry.blobs[REPOSITORY, digest_of(data)] = data
    descriptors = tuple(Descriptor(kind, digest_of(data), len(data)) for kind, data in layers)
    config = Descriptor(manifest.CONFIG_TYPE, digest_of(b"{}"), 2)
    return Manifest(manifest.MANIFEST_TYPE, config, descriptors, manifest.ARTIFACT_TYPE, schema_version=2)


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


def test_it_has_each_weight_that_is_worth_it_once(registry: MemoryRegistry) -> None:
    wanted = model(
        registry,
        (manifest.WEIGHT_TYPE, NEW),
        (manifest.WEIGHT_TYPE, NEW),
        (manifest.WEIGHT_TYPE, OLD),
        (manifest.WEIGHT_TYPE, noise(3, MIB - 1)),
        (manifest.WEIGHT_TYPE, b""),
        (manifest.DOC_TYPE, noise(4, MIB)),
        (manifest.WEIGHT_CONFIG_TYPE, noise(5, MIB)),
    )
    ticks: list[int] = []
    data = chunk_index.make(registry, REPOSITORY, wanted, ticks.append)
    assert index.parse(data).entries == {entry.digest: entry for entry in (entry_of(NEW), entry_of(OLD))}
    assert sum(ticks) == len(NEW) + len(OLD)
    assert chunk_index.make(registry, REPOSITORY, wanted) == data


@pytest.mark.parametrize("layers", [[], [(manifest.WEIGHT_TYPE, b"tiny")], [(manifest.DOC_TYPE, OLD)]])
def test_without_large_weights_there_is_none(registry: MemoryRegistry, layers: list[tuple[str, bytes]]) -> None:
    assert chunk_index.make(registry, REPOSITORY, model(registry, *layers)) == b""


@pytest.mark.parametrize("bad", [NEW[:-1] + b"?", NEW[:-1], b""])
def test_a_decayed_layer_is_told(registry: MemoryRegistry, bad: bytes) -> None:
    wanted = model(registry, (manifest.WEIGHT_TYPE, NEW))
    registry.blobs[REPOSITORY, digest_of(NEW)] = bad
    with pytest.raises(Malformed, match="pack the model again"):
        chunk_index.make(registry, REPOSITORY, wanted)


def test_what_does_not_fit_is_left_out(registry: MemoryRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = model(registry, (manifest.WEIGHT_TYPE, NEW), (manifest.WEIGHT_TYPE, OLD))
    monkeypatch.setattr(limits, "delta_index_bytes_max", index.encoded_bytes(1, entry_of(NEW).chunk_count))
    assert set(index.parse(chunk_index.make(registry, REPOSITORY, wanted)).entries) == {digest_of(NEW)}
    # By its size a blob may have as many, and by its content it has more.
    monkeypatch.setattr(limits, "delta_blob_chunks_max", entry_of(OLD).chunk_count - 1)
    monkeypatch.setattr(chunk_index.chunking, "fits", lambda size, bits: True)
    assert chunk_index.make(registry, REPOSITORY, wanted) == b""


def test_it_is_an_artefact_of_its_own(registry: MemoryRegistry) -> None:
    data = chunk_index.make(registry, REPOSITORY, model(registry, (manifest.WEIGHT_TYPE, NEW)))
    made = artefact.artefact("1.2.0", data)
    artefact.put(registry, REPOSITORY, made)
    written = registry.writes
    artefact.put(registry, REPOSITORY, made)
    assert registry.writes == written + 1  # the tag only
    assert registry.tags(REPOSITORY) == ["chunks_1.2.0"]
    found = json.loads(registry.manifests[REPOSITORY, "chunks_1.2.0"])
    assert found["artifactType"] == index.MEDIA_TYPE
    assert [layer["mediaType"] for layer in found["layers"]] == [index.MEDIA_TYPE]
    for blob in (found["config"], *found["layers"]):
        assert len(registry.blobs[REPOSITORY, blob["digest"]]) == blob["size"]
    with pytest.raises(manifest.BadManifest):
        manifest.parse(made.manifest)  # nobody takes it for a model


def test_a_box_uses_it(registry: MemoryRegistry, tmp_path: Path) -> None:
    wanted = model(registry, (manifest.WEIGHT_TYPE, NEW))
    made = artefact.artefact("1.2.0", chunk_index.make(registry, REPOSITORY, wanted))
    artefact.put(registry, REPOSITORY, made)
    layer = wanted.layers[0]
    entry = reference.fetch(registry, REPOSITORY, made.chunks).of(layer.digest, layer.size)
    (tmp_path / "old").write_bytes(OLD)
    seeds = Seeds(tmp_path / "cache", [Seed(digest_of(OLD)[7:], tmp_path / "old", len(OLD))])
    saved = rebuild.rebuild(registry, REPOSITORY, entry, seeds, tmp_path / "new.partial")
    assert (tmp_path / "new.partial").read_bytes() == NEW
    assert saved.fetched < 300_000
