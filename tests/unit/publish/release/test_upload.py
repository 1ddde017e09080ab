"""What goes up, in which order, after a failure at every call, and with two publishers who race."""

import pytest
from memory_registry import MemoryRegistry
from publishing import TUF, Client, Desk, started

from appliance.errors import AlreadyExists, FailedPrecondition
from appliance.publish.release import operations, release_plan, upload
from appliance.registry.sources.failures import Malformed, Unreachable


def test_order_of_a_first_upload(desk):
    assert desk.remote.puts == [
        "1.models.press.json",
        "2.targets.json",
        "2.snapshot.json",
        "1.root.json",
        "timestamp.json",
    ]


def test_only_what_changed_goes_up_in_the_safe_order(tmp_path, desk):
    operations.line_add(desk.publisher, "iris")
    desk.publish()
    desk.remote.puts.clear()
    desk.pack(tmp_path / "m")
    desk.release()
    operations.rotate(desk.publisher, "targets")
    assert desk.publish() == [
        "2.models.press.json",
        "4.targets.json",
        "5.snapshot.json",
        "2.root.json",
        "timestamp.json",
    ]
    assert desk.remote.puts == ["1.0.0", *desk.publish.__self__.remote.puts[1:]]
    assert desk.publish() == []


def test_history_never_goes_up(desk):
    operations.refresh(desk.publisher)
    desk.publish()
    assert not [tag for tag in desk.remote.puts if tag.endswith(".timestamp.json")]


def changed(tmp_path, name: str) -> Desk:
    desk = started(tmp_path / name)
    desk.pack(tmp_path / f"{name}.m")
    desk.release()
    operations.rotate(desk.publisher, "root")
    operations.rotate(desk.publisher, "models.press")
    return desk


def test_failure_at_every_call_is_completed_and_never_mixed(tmp_path):
    """A box sees the old state, or the new one whole; or, for a moment, a new root before its timestamp."""
    whole = changed(tmp_path, "whole")
    before = whole.remote.writes
    whole.publish()
    calls = whole.remote.writes - before
    assert calls > 10
    for call in range(1, calls + 1):
        desk = changed(tmp_path, f"d{call}")
        box = Client(tmp_path / f"box{call}", desk.remote, desk.root())
        assert box.target() is None
        desk.remote.fail_at = desk.remote.writes + call
        with pytest.raises(Unreachable):
            desk.publish()
        assert box.target() is None, call
        desk.remote.fail_at = 0
        desk.open().publish()
        assert box.target(), call
        assert desk.publish() == []


def test_a_release_after_a_broken_upload_takes_everything_along(tmp_path, desk, box):
    desk.pack(tmp_path / "1")
    desk.pack(tmp_path / "2", "2.0.0")
    desk.release()
    desk.remote.fail_at = desk.remote.writes + 14
    with pytest.raises(Unreachable):
        desk.publish()
    desk.remote.fail_at = 0
    desk.release("2.0.0")
    desk.publish()
    assert box.target("1.0.0")
    assert box.target("2.0.0")


@pytest.fixture
def two(tmp_path, desk):
    """A second publisher with the same keys and the state of now."""
    import shutil

    shutil.copytree(desk.folder, tmp_path / "other")
    return desk, Desk(tmp_path / "other", desk.remote)


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_the_second_of_two_publishers_is_refused(two, rounds, box):
    """Whether the second one has made as many versions as the first, or more."""
    first, second = two
    operations.refresh(first.publisher)
    first.publish()
    second.clock.advance(60)
    for _ in range(rounds):
        operations.refresh(second.publisher)
    writes = second.remote.writes
    with pytest.raises(AlreadyExists, match="fetch") as caught:
        second.publish()
    assert caught.value.reason == "REGISTRY_NEWER"
    assert second.remote.writes == writes
    # What to do works: what was made is set aside, and the next change goes up.
    assert second.fetch()
    assert (second.folder / "metadata.broken" / "timestamp.json").exists()
    operations.refresh(second.publisher)
    second.publish()
    assert box.target() is None


def test_an_older_folder_is_refused(two):
    first, second = two
    operations.refresh(first.publisher)
    first.publish()
    with pytest.raises(AlreadyExists, match="the registry has timestamp"):
        second.publish()


def test_one_who_has_only_begun_is_noticed(two):
    """The first was cut off before its timestamp; the second doesn't overwrite its versioned files."""
    first, second = two
    operations.refresh(first.publisher)
    second.clock.advance(60)
    operations.refresh(second.publisher)
    first.remote.fail_at = first.remote.writes + 4  # config, file, manifest of the snapshot, then
    with pytest.raises(Unreachable):
        first.publish()
    assert first.remote.puts[-1] == "3.snapshot.json"
    first.remote.fail_at = 0
    with pytest.raises(AlreadyExists, match="has begun to"):
        second.publish()
    first.publish()
    assert second.fetch()


def test_a_race_to_the_last_moment(two, monkeypatch):
    """The other one's timestamp comes between our look and our last file."""
    first, second = two
    operations.refresh(first.publisher, ["targets"])
    second.clock.advance(60)
    operations.refresh(second.publisher, ["models.press"])
    original = upload.put

    def put(target, repository, name, data):
        original(target, repository, name, data)
        if name == "2.models.press.json":
            first.remote.manifests[TUF, "timestamp.json"] = b"other"

    monkeypatch.setattr(upload, "put", put)
    monkeypatch.setattr(upload, "fetch", lambda s, r, n, f=upload.fetch: _fetch(s, r, n, f))
    with pytest.raises(AlreadyExists, match="at this very moment"):
        second.publish()


def _fetch(source, repository, name, fetch):
    return b"other" if source.manifests.get((repository, name)) == b"other" else fetch(source, repository, name)


def test_fetch_takes_nothing_unsigned(two):
    first, second = two
    operations.refresh(first.publisher)
    first.publish()
    before = second.workspace.files()
    data = first.workspace.files()["timestamp.json"]
    upload.put(first.remote, TUF, "timestamp.json", data.replace(b'"version":3', b'"version":4'))
    with pytest.raises(FailedPrecondition):
        second.fetch()
    assert second.workspace.files() == before


def test_fetch_takes_nothing_older(desk, two):
    _, second = two
    operations.refresh(second.publisher)
    with pytest.raises(FailedPrecondition, match="publish push"):
        second.fetch()
    assert not desk.fetch()


def test_fetch_needs_a_root(tmp_path, desk):
    new = Desk(tmp_path / "new", desk.remote)
    with pytest.raises(FailedPrecondition, match="--root"):
        new.fetch()
    other = started(tmp_path / "stranger")
    with pytest.raises(FailedPrecondition):
        new.fetch(other.root())
    assert new.fetch(desk.root())


def test_nothing_to_publish(tmp_path):
    with pytest.raises(FailedPrecondition, match="nothing has been signed"):
        Desk(tmp_path / "new").publish()


@pytest.mark.parametrize("remote", [b"", b"[]", b'{"signed":1}', b"{" * 10_000])
def test_a_broken_timestamp_in_the_registry(desk, remote):
    with pytest.raises(FailedPrecondition) as caught:
        release_plan.names(desk.workspace.files(), remote)
    assert caught.value.reason == "REGISTRY_BROKEN"


def test_another_artefact_than_what_was_signed_is_not_sent(tmp_path, desk):
    from publishing import SETTINGS, registry

    from appliance.publish.release import pack

    desk.pack(tmp_path / "1")
    desk.release()
    import model_folders

    plan = pack.plan(model_folders.make(tmp_path / "2", model_folders.onnx_toml(), **{"model.onnx": b"other"}))
    with pytest.raises(AlreadyExists, match="packed already"):
        pack.put(plan, registry(desk.layout), SETTINGS.model_repository("press"))
    pack.put(plan, registry(desk.layout), SETTINGS.model_repository("press"), replace=True)
    with pytest.raises(FailedPrecondition, match="released as"):
        desk.publish()
    assert "2.models.press.json" not in desk.remote.puts


def test_a_decayed_layout_is_not_sent(tmp_path, desk):
    plan = desk.pack(tmp_path / "m")
    desk.release()
    place = "acme/models/press"
    digest = f"sha256:{plan.layers[1].sha256}"
    desk.layout.blobs[place, digest] = b"X" + desk.layout.blobs[place, digest][1:]
    with pytest.raises(Malformed, match="decayed"):
        desk.publish()
    assert isinstance(desk.remote, MemoryRegistry)
    assert "2.models.press.json" not in desk.remote.puts
