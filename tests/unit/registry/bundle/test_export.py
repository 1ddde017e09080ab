"""Bundles: what is carried, in which order, and what a source that lies or breaks leaves behind."""

import json
from collections.abc import Callable

import msgspec
import pytest
from memory_registry import MemoryRegistry

from appliance.registry.bundle import metadata
from appliance.registry.bundle.export import export
from appliance.registry.delta import artefact
from appliance.registry.release import Release
from appliance.registry.sources.failures import Absent, Malformed, Unreachable
from appliance.registry.trust import carried, files
from appliance.store import manifest
from appliance.store.manifest import Descriptor

PREFIX = "plant"
LINES = ("classifier", "vad")


class Box(MemoryRegistry):
    """A registry whose pieces may be spoilt: by digest, what its blob gives instead."""

    def __init__(self) -> None:
        super().__init__()
        self.instead: dict[str, bytes] = {}

    def blob(self, repository: str, digest: str, **options: object):  # type: ignore[override,no-untyped-def]
        if digest in self.instead:
            self.blobs[repository, digest] = self.instead[digest]
        return super().blob(repository, digest, **options)  # type: ignore[arg-type]


def put_file(registry: MemoryRegistry, name: str, body: object) -> None:
    packed = carried.encode(name, json.dumps(body).encode())
    for blob in packed.blobs:
        registry.put_blob("plant/tuf", manifest.digest_of(blob), len(blob), lambda blob=blob: (blob,))
    registry.put_manifest("plant/tuf", packed.tag, manifest.MANIFEST_TYPE, packed.manifest)


def put_release(registry: MemoryRegistry, line: str, files: dict[str, bytes]) -> Release:
    repository = f"plant/models/{line}"
    blobs = [b'{"config": true}', *files.values()]
    for blob in blobs:
        registry.put_blob(repository, manifest.digest_of(blob), len(blob), lambda blob=blob: (blob,))
    config, *layers = (Descriptor("x/y", manifest.digest_of(b), len(b)) for b in blobs)
    made = manifest.Manifest(manifest.MANIFEST_TYPE, config, tuple(layers), manifest.ARTIFACT_TYPE, schema_version=2)
    data = manifest.canonical(made)
    registry.put_manifest(repository, "1.0.0", manifest.MANIFEST_TYPE, data)
    total = sum(map(len, blobs))
    return Release(line, "1.0.0", repository, manifest.digest_of(data), len(data), total, 1, 1)


@pytest.fixture
def source() -> Box:
    made = Box()
    for number in (1, 2, 3):
        put_file(made, f"{number}.root.json", {"signed": {"version": number}})
    meta = {"targets.json": {"version": 4}} | {f"models.{line}.json": {"version": 2} for line in LINES}
    put_file(made, "timestamp.json", {"signed": {"meta": {"snapshot.json": {"version": 9}}}})
    put_file(made, "9.snapshot.json", {"signed": {"meta": meta}})
    put_file(made, "4.targets.json", {"signed": {}})
    for line in LINES:
        put_file(made, f"2.models.{line}.json", {"signed": {"line": line}})
    return made


@pytest.fixture
def releases(source: Box) -> list[Release]:
    return [put_release(source, line, {"a": line.encode() * 1000, "b": b"shared"}) for line in LINES]


def of(source: MemoryRegistry) -> Callable[[Release], bytes]:
    return lambda release: source.manifests[release.repository, release.version]


def silent(_what: str, _done: int, _total: int) -> None: ...


def test_a_bundle_has_all_that_its_timestamp_names(source: Box, releases: list[Release]) -> None:
    target, seen = MemoryRegistry(), []
    done = export(source, target, PREFIX, releases, of(source), lambda *a: seen.append(a))
    assert target.manifests == source.manifests
    assert target.blobs == source.blobs
    assert done.releases == ("classifier:1.0.0", "vad:1.0.0")
    assert done.metadata_files == 3 + 3 + 2
    assert seen[-1][1:] == (done.bytes, done.bytes) == (sum(r.bytes for r in releases),) * 2
    assert [a[1] for a in seen] == sorted(a[1] for a in seen)


@pytest.mark.parametrize("there", ["right", "wrong", "gone"])
def test_a_chunk_index_goes_along_if_it_can_be_had(source: Box, releases: list[Release], there: str) -> None:
    made = artefact.artefact("1.0.0", b"an index")
    artefact.put(source, releases[0].repository, made)
    if there == "wrong":
        source.instead[made.chunks.digest] = b"another!"
    elif there == "gone":
        del source.blobs[releases[0].repository, made.chunks.digest]
    target = MemoryRegistry()
    named = msgspec.structs.replace(releases[0], chunks=made.chunks)
    export(source, target, PREFIX, [named, releases[1]], of(source), silent)
    carried = ["chunks_1.0.0"] if there == "right" else []
    assert target.puts[: len(carried) + 1] == [*carried, "1.0.0"]
    assert ((named.repository, made.chunks.digest) in target.blobs) == (there == "right")
    assert target.puts[-1] == "timestamp.json"


def test_what_refers_comes_after_what_is_referred_to(source: Box, releases: list[Release]) -> None:
    target = MemoryRegistry()
    export(source, target, PREFIX, releases, of(source), silent)
    assert target.puts[:2] == ["1.0.0", "1.0.0"]
    assert target.puts[2:5] == ["1.root.json", "2.root.json", "3.root.json"]
    assert target.puts[-2:] == ["9.snapshot.json", "timestamp.json"]


def test_only_the_lines_that_were_chosen(source: Box, releases: list[Release]) -> None:
    target = MemoryRegistry()
    export(source, target, PREFIX, releases[:1], of(source), silent)
    assert "2.models.classifier.json" in target.puts
    assert "2.models.vad.json" not in target.puts
    assert not any("vad" in place for place, _ in target.blobs)


def test_a_stick_that_is_pulled_out_at_any_moment_goes_on(source: Box, releases: list[Release]) -> None:
    whole = MemoryRegistry()
    export(source, whole, PREFIX, releases, of(source), silent)
    for number in range(1, whole.writes + 1):
        target = MemoryRegistry()
        target.fail_at = number
        with pytest.raises(Unreachable):
            export(source, target, PREFIX, releases, of(source), silent)
        assert "timestamp.json" not in target.puts
        target.fail_at = 0
        before = target.writes
        export(source, target, PREFIX, releases, of(source), silent)
        assert target.manifests == whole.manifests
        assert target.blobs == whole.blobs
        # Blobs that are there are not sent again.
        assert target.writes - before <= whole.writes + 1


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (b"vad" * 999, Unreachable, "sent 2997 of the 3000 bytes"),
        (b"vad" * 1000 + b"!", Malformed, "more of"),
        (b"dav" * 1000, Malformed, "another digest"),
        (b"", Unreachable, "sent 0 of the 3000 bytes"),
    ],
)
def test_a_blob_that_is_not_what_its_digest_says(
    source: Box, releases: list[Release], wrong: bytes, error: type[Exception], words: str
) -> None:
    target, digest = MemoryRegistry(), manifest.digest_of(b"vad" * 1000)
    source.instead[digest] = wrong
    with pytest.raises(error, match=words):
        export(source, target, PREFIX, releases, of(source), silent)
    assert ("plant/models/vad", digest) not in target.blobs
    assert "timestamp.json" not in target.puts


def test_a_manifest_that_is_not_the_release_carries_nothing(source: Box, releases: list[Release]) -> None:
    target = MemoryRegistry()
    with pytest.raises(ValueError, match="another manifest"):
        export(source, target, PREFIX, releases[:1], lambda _: of(source)(releases[1]), silent)
    assert target.puts == []


@pytest.mark.parametrize(
    ("name", "body", "error"),
    [
        ("timestamp.json", {"signed": {"meta": {}}}, Absent),
        ("timestamp.json", {"signed": {"meta": {"snapshot.json": {"version": 0}}}}, Absent),
        ("timestamp.json", {"signed": {"meta": {"snapshot.json": {"version": "9"}}}}, Malformed),
        ("timestamp.json", [], Malformed),
        ("timestamp.json", {"signed": {"meta": {"snapshot.json": {"version": 10**200}}}}, Malformed),
        ("9.snapshot.json", {"signed": {"meta": {"targets.json": {"version": 4}}}}, Absent),
        ("9.snapshot.json", {"signed": {"meta": {"targets.json": {"version": 5}}}}, Absent),
    ],
)
def test_metadata_that_lead_nowhere(source: Box, name: str, body: object, error: type[Exception]) -> None:
    put_file(source, name, body)
    with pytest.raises(error):
        list(metadata.current(source, PREFIX, LINES))


def test_roots_without_end(source: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.limits.tuf_root_rotations_max", 2)
    with pytest.raises(Malformed, match="more than 2 roots"):
        list(metadata.current(source, PREFIX, LINES))


def test_a_large_file_lies_in_a_blob(source: Box) -> None:
    large = {"signed": {"meta": {"targets.json": {"version": 4}}}, "filling": "x" * 100_000}
    put_file(source, "9.snapshot.json", large)
    found = files.read(source, "plant/tuf", "9.snapshot.json")
    assert msgspec.json.decode(found) == large
    with pytest.raises(Malformed, match="at most 1000 are allowed"):
        files.read(source, "plant/tuf", "9.snapshot.json", 1000)
    with pytest.raises(Malformed, match="at most 10 are allowed"):
        files.read(source, "plant/tuf", "timestamp.json", 10)
