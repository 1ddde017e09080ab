"""What a publisher signs is what python-tuf's own client takes: release, withdraw, refresh, rotation of every key."""

import pytest
from publishing import Client, registry
from tuf.api.exceptions import RepositoryError

from appliance.clock import FakeClock
from appliance.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from appliance.publish.release import operations, repository
from appliance.registry import release as releases
from appliance.registry.trust.releases import Trust
from appliance.store.manifest import digest_of


def decoded(target):
    return releases.decode(target.path, target.length, target.hashes["sha256"], target.custom)


def test_release_reaches_a_client(tmp_path, desk, box):
    plan = desk.pack(tmp_path / "m")
    outcome = desk.release(
        channels=("candidate",), hardware=("cuda+x86_64",), regions=("eu",), minimum_appliance="1.2.0"
    )
    assert outcome.done
    assert box.target() is None
    desk.publish()
    release = decoded(box.target())
    assert release == releases.Release(
        line="press",
        version="1.0.0",
        repository="acme/models/press",
        digest=plan.artefact.digest,
        manifest_bytes=len(plan.artefact.manifest_bytes),
        bytes=plan.bytes,
        counter=2,
        released_s=desk.publisher.now_s,
        channels=("candidate",),
        hardware=("cuda+x86_64",),
        regions=("eu",),
        minimum_appliance="1.2.0",
        licence="Apache-2.0",
    )
    # The artefact came first, and is whole.
    assert digest_of(desk.remote.manifests["acme/models/press", "1.0.0"]) == release.digest
    assert desk.remote.puts.index("1.0.0") < desk.remote.puts.index("2.models.press.json")
    assert sum(len(b) for (place, _), b in desk.remote.blobs.items() if place == "acme/models/press") == release.bytes


def test_a_timestamp_says_when_it_was_signed_and_a_boxs_clock_follows(tmp_path, desk):
    desk.publish()
    desk.clock.advance(3 * 3600)
    operations.refresh(desk.publisher)
    desk.publish()
    late = FakeClock(wall_ns=desk.clock.wall_ns() - 30 * 24 * 3600 * 10**9)  # its battery is empty
    trust = Trust(tmp_path / "trust", desk.remote, "acme", late)
    trust.install(desk.root())
    assert trust.refresh().roles[1].signed_s == desk.publisher.now_s
    assert trust.clock.now_s() == desk.publisher.now_s


def test_waves_survive_canonical_json(tmp_path, desk, box):
    desk.pack(tmp_path / "m")
    desk.release(waves=(1.0, 5.0, 25.0, 100.0), wave_hours=12)
    desk.publish()
    start = desk.publisher.now_s
    waves = decoded(box.target()).waves
    assert [(wave.percent, wave.from_s - start) for wave in waves] == [(1, 0), (5, 43200), (25, 86400), (100, 129600)]


def test_counter_rises_also_after_a_withdrawal(tmp_path, desk, box):
    desk.pack(tmp_path / "1")
    desk.pack(tmp_path / "2", "2.0.0")
    desk.release("1.0.0")
    desk.release("2.0.0")
    assert operations.withdraw(desk.publisher, "press", "2.0.0").done
    desk.release("1.0.0")
    desk.publish()
    assert box.target("2.0.0") is None
    assert decoded(box.target("1.0.0")).counter == 5


def test_withdrawn_is_gone(tmp_path, desk, box):
    desk.pack(tmp_path / "m")
    desk.release()
    desk.publish()
    assert box.target()
    outcome = operations.withdraw(desk.publisher, "press", "1.0.0")
    assert "press: 1.0.0 is withdrawn" in outcome.words
    desk.publish()
    assert box.target() is None
    with pytest.raises(NotFound, match="is not released"):
        operations.withdraw(desk.publisher, "press", "1.0.0")


def test_refresh_moves_only_the_expiry(tmp_path, desk, box):
    desk.pack(tmp_path / "m")
    desk.release()
    before = desk.publisher.current()
    desk.clock.advance(3600)
    operations.refresh(desk.publisher)
    after = desk.publisher.current()
    assert after.targets == before.targets
    assert after.snapshot.signed.meta == before.snapshot.signed.meta
    assert (after.timestamp.signed.expires - before.timestamp.signed.expires).total_seconds() == 3600
    assert desk.publish()[-2:] == [f"{after.snapshot.signed.version}.snapshot.json", "timestamp.json"]
    assert box.target()


def test_refresh_renews_named_roles(desk, box):
    before = desk.publisher.current()
    desk.clock.advance(86_400)
    assert operations.refresh(desk.publisher, ["root", "targets", "models.press"]).done
    after = desk.publisher.current()
    for role in ("root", "targets", "models.press"):
        old, new = before.metadata(role).signed, after.metadata(role).signed
        assert (new.version, new.expires > old.expires) == (old.version + 1, True)
    desk.publish()
    assert box.target() is None
    with pytest.raises(NotFound):
        operations.refresh(desk.publisher, ["models.nothing"])


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp", "models.press"])
def test_rotation(tmp_path, desk, box, role):
    """A box that was there before and one that begins at the first root both follow; the old key signs nothing more."""
    desk.pack(tmp_path / "m")
    desk.release()
    desk.publish()
    assert box.target()
    base = desk.publisher.current()
    old = operations.roles.role_keyids(base, role)[0]
    assert operations.rotate(desk.publisher, role).done
    desk.publish()
    after = desk.publisher.current()
    assert old not in operations.roles.role_keyids(after, role)
    assert len(operations.roles.role_keyids(after, role)) == len(operations.roles.role_keyids(base, role))
    assert old not in after.metadata(role).signatures or role == "root"
    assert box.target()
    assert Client(tmp_path / "new", desk.remote, desk.root(1)).target()
    desk.release()
    desk.publish()
    assert decoded(box.target()).counter > 2


def test_root_twice_and_all_its_keys(tmp_path, desk, box):
    first = set(desk.publisher.current().root.signed.roles["root"].keyids)
    for keyid in sorted(first):
        assert operations.rotate(desk.publisher, "root", keyid[:8]).done
    assert not first & set(desk.publisher.current().root.signed.roles["root"].keyids)
    desk.publish()
    assert [tag for tag in desk.remote.puts if "root" in tag] == [f"{n}.root.json" for n in (1, 2, 3, 4)]
    assert box.target() is None
    desk.pack(tmp_path / "m")
    desk.release()
    desk.publish()
    assert box.target()


def test_a_rotated_line_key_can_release_nothing(tmp_path, desk, box):
    """The old key's signature under the new delegation is refused by the client: the threshold isn't met."""
    old = desk.publisher.current().lines["models.press"]
    operations.rotate(desk.publisher, "models.press")
    current = desk.publisher.current()
    with pytest.raises(RepositoryError):
        current.targets.signed.verify_delegate("models.press", old.signed_bytes, old.signatures)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda d: operations.rotate(d.publisher, "models.x"), NotFound, "no role models.x"),
        (lambda d: operations.rotate(d.publisher, "root", "zz"), NotFound, "no key"),
        (lambda d: operations.line_add(d.publisher, "press"), AlreadyExists, "there already"),
        (lambda d: operations.line_add(d.publisher, "../up"), InvalidArgument, "name"),
        (lambda d: operations.line_add(d.publisher, "*"), InvalidArgument, "name"),
        (lambda d: d.release(line="iris"), NotFound, "no line iris"),
        (lambda d: d.release("3.0.0"), NotFound, "not packed"),
        (lambda d: operations.init(d.publisher), AlreadyExists, "initialised"),
    ],
)
def test_refused(desk, call, error, text):
    before = desk.workspace.files()
    with pytest.raises(error, match=text):
        call(desk)
    assert desk.workspace.files() == before


@pytest.mark.parametrize(
    "terms",
    [
        {"channels": ("st able",)},
        {"channels": ()},
        {"regions": ("e+u",)},
        {"hardware": ("cuda + x86",)},
        {"minimum_appliance": "1.2"},
        {"channels": ("x" * 65,)},
    ],
)
def test_bad_terms(tmp_path, desk, terms):
    desk.pack(tmp_path / "m")
    with pytest.raises(InvalidArgument):
        desk.release(**terms)


@pytest.mark.parametrize(
    "name", ["timestamp.json", "2.snapshot.json", "2.targets.json", "1.models.press.json", "1.root.json"]
)
def test_metadata_changed_by_other_hands_are_not_built_on(desk, name):
    path = desk.folder / "metadata" / name
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"version":', b'"version": '))
    if name != "timestamp.json" and "root" not in name:  # the signature holds, but length and hash don't
        with pytest.raises(FailedPrecondition, match="metadata"):
            desk.publisher.current()
    path.write_bytes(data.replace(b'"expires":"2', b'"expires":"3'))
    with pytest.raises(FailedPrecondition, match="metadata"):
        desk.publisher.current()
    path.unlink()
    if name == "timestamp.json":
        assert desk.publisher.read() is None
    else:
        with pytest.raises(FailedPrecondition, match="metadata"):
            desk.publisher.current()


def test_only_files_of_metadata_are_read(desk):
    assert repository.split_name("../1.root.json") is None
    assert repository.split_name("root.json") is None
    assert repository.split_name("0.root.json") is None
    (desk.folder / "metadata" / "notes.txt").write_text("left alone")
    (desk.folder / "metadata" / "9.root.json").symlink_to("/dev/zero")
    with pytest.raises(FailedPrecondition, match="no file"):
        desk.workspace.files()
    assert registry(desk.remote).name == "memory"
