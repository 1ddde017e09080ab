"""The chunk index from `pack` to the box: written beside the version, named by its release, sent before it; and when it can't."""

from pathlib import Path

import model_folders
import pytest
from delta_box import MIB, noise
from publishing import SETTINGS, Client, Desk, registry

from appliance.publish.release import chunks, pack, push
from appliance.registry import release as releases
from appliance.registry.delta import artefact, index, reference
from appliance.registry.release import Release
from appliance.store.manifest import digest_of

PLACE = SETTINGS.model_repository("press")
WEIGHTS = noise(1, 2 * MIB)
TAG = "chunks_1.0.0"


def packed(desk: Desk, folder: Path, weights: bytes = WEIGHTS, version: str = "1.0.0") -> pack.Plan:
    return desk.pack(folder, version, **{"model.onnx": weights})


def released(box: Client, version: str = "1.0.0") -> Release:
    target = box.target(version)
    assert target is not None
    return releases.decode(target.path, target.length, target.hashes["sha256"], target.custom)


def test_the_index_is_signed_with_the_release_and_is_there_before_it(tmp_path: Path, desk: Desk, box: Client) -> None:
    packed(desk, tmp_path / "m")
    desk.release()
    desk.publish()
    said = released(box).chunks
    assert said is not None
    found = reference.fetch(desk.remote, PLACE, said)
    assert set(found.entries) == {digest_of(WEIGHTS)}
    assert desk.remote.puts.index(TAG) < desk.remote.puts.index("2.models.press.json")
    # The next publication sends nothing again.
    before = desk.remote.puts.count(TAG)
    desk.publish()
    assert desk.remote.puts.count(TAG) == before == 1


def test_a_small_model_has_none(tmp_path: Path, desk: Desk, box: Client) -> None:
    desk.pack(tmp_path / "m")
    desk.release()
    desk.publish()
    assert released(box).chunks is None
    assert TAG not in desk.layout.tags(PLACE)
    assert TAG not in desk.remote.tags(PLACE)


def test_one_that_was_replaced_by_a_small_model_is_not_taken_for_its(tmp_path: Path, desk: Desk, box: Client) -> None:
    packed(desk, tmp_path / "m")
    plan = desk_plan(tmp_path / "again", b"small")
    pack.put(plan, registry(desk.layout), PLACE, replace=True)
    assert TAG in desk.layout.tags(PLACE)
    desk.release()
    desk.publish()
    assert released(box).chunks is None
    assert TAG not in desk.remote.tags(PLACE)


def desk_plan(folder: Path, weights: bytes) -> pack.Plan:
    return pack.plan(model_folders.make(folder, model_folders.onnx_toml("1.0.0"), **{"model.onnx": weights}))


def _cut(desk: Desk, data: bytes) -> None:
    desk.layout.blobs[PLACE, digest_of(data)] = data[:-1]


def _flip(desk: Desk, data: bytes) -> None:
    desk.layout.blobs[PLACE, digest_of(data)] = data[:-1] + bytes([data[-1] ^ 1])


def _lose(desk: Desk, data: bytes) -> None:
    del desk.layout.blobs[PLACE, digest_of(data)]


def _no_manifest(desk: Desk, data: bytes) -> None:
    desk.layout.manifests[PLACE, TAG] = b"{}"


def _a_model(desk: Desk, data: bytes) -> None:
    desk.layout.manifests[PLACE, TAG] = desk.layout.manifests[PLACE, "1.0.0"]


def _no_index(desk: Desk, data: bytes) -> None:
    artefact.put(desk.layout, PLACE, artefact.artefact("1.0.0", b"no index"))


def _of_another(desk: Desk, data: bytes) -> None:
    other = desk_plan(desk.folder.parent / "other", noise(5, 2 * MIB))
    scratch = Desk(desk.folder.parent / "scratch")
    pack.put(other, registry(scratch.layout), PLACE)
    made = artefact.artefact("1.0.0", scratch.layout.blobs[PLACE, index_digest(scratch)])
    artefact.put(desk.layout, PLACE, made)


def index_digest(desk: Desk) -> str:
    return next(d for (_, d), blob in desk.layout.blobs.items() if blob[:8] == b"appchunk")


@pytest.mark.parametrize("spoil", [_cut, _flip, _lose, _no_manifest, _a_model, _no_index, _of_another])
def test_one_that_is_not_right_is_left_out(tmp_path: Path, desk: Desk, box: Client, spoil) -> None:
    packed(desk, tmp_path / "m")
    spoil(desk, desk.layout.blobs[PLACE, index_digest(desk)])
    desk.release()
    desk.publish()
    assert released(box).chunks is None
    assert desk.remote.tags(PLACE) == ["1.0.0"]


def test_what_somebody_else_has_pushed_needs_no_index_here(tmp_path: Path, desk: Desk, box: Client) -> None:
    """The layout has been emptied between the release and its publication: the artefact is in the registry."""
    packed(desk, tmp_path / "m")
    desk.release()
    push.copy(desk.layout, desk.remote, PLACE, "1.0.0")
    desk.layout.blobs.clear()
    desk.layout.manifests.clear()
    desk.publish()
    said = released(box).chunks
    assert said is not None
    assert (PLACE, said.digest) not in desk.remote.blobs


def test_a_push_sends_it(tmp_path: Path, desk: Desk) -> None:
    packed(desk, tmp_path / "m")
    chunks.send(registry(desk.layout), registry(desk.remote), PLACE, "1.0.0")
    data = desk.remote.blobs[PLACE, index_digest(desk)]
    assert set(index.parse(data).entries) == {digest_of(WEIGHTS)}
