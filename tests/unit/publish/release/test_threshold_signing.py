"""Two of three people: requests and signatures as files between three folders, and what happens to altered ones."""

import json

import pytest
from memory_registry import MemoryRegistry
from publishing import Client, Desk

from appliance.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from appliance.publish.release import keys, operations
from appliance.publish.release.settings import Thresholds


@pytest.fixture
def people(tmp_path):
    """Anna has the online keys; each of the three has one root key; two must sign a root."""
    remote = MemoryRegistry()
    anna, ben, cleo = (Desk(tmp_path / name, remote) for name in ("anna", "ben", "cleo"))
    files = []
    for person in (ben, cleo):
        key = person.publisher.signers.create("root")
        files.append(person.workspace.keys / f"{keys.stem('root', key.keyid)}.pub")
    outcome = operations.init(anna.publisher, files)
    assert [(need.role, need.missing) for need in outcome.missing] == [("root", 1)]
    return anna, ben, cleo


def signed(person: Desk, request: bytes) -> bytes:
    return person.publisher.sign(person.publisher.check_request(request))


def combined(person: Desk, request: bytes, *signatures: bytes):
    files = [(f"{n}.sig", data) for n, data in enumerate(signatures)]
    return person.publisher.combine(person.publisher.check_request(request), files)


@pytest.fixture
def running(people):
    anna, ben, cleo = people
    request = anna.publisher.request()
    assert combined(anna, request, signed(ben, request)).done
    operations.line_add(anna.publisher, "press")
    anna.publish()
    for person in (ben, cleo):
        assert person.fetch(anna.root())
    return anna, ben, cleo


def test_first_root(people, tmp_path):
    anna, ben, _ = people
    assert anna.publisher.read() is None
    with pytest.raises(FailedPrecondition, match="nothing is signed"):
        operations.line_add(anna.publisher, "press")
    request = anna.publisher.request()
    assert combined(anna, request, signed(ben, request)).done
    assert anna.workspace.pending() is None
    assert len(anna.publisher.current().root.signatures) == 2
    anna.publish()
    assert Client(tmp_path / "box", anna.remote, anna.root()).target() is None


def test_rotation_by_two_people_and_a_third_who_keeps_up(running, tmp_path):
    anna, ben, cleo = running
    box = Client(tmp_path / "box", anna.remote, anna.root())
    new = ben.publisher.signers.create("root")
    new_file = ben.workspace.keys / f"{keys.stem('root', new.keyid)}.pub"
    old = anna.publisher.current().root.signed.roles["root"].keyids[0]
    outcome = operations.rotate(anna.publisher, "root", old, new_file)
    assert {(need.by, need.missing) for need in outcome.missing} == {("the old root", 1), ("root", 1)}
    request = anna.publisher.request()
    # Cleo's key is in the old and in the new root, so hers is enough for both.
    assert combined(anna, request, signed(cleo, request)).done
    anna.publish()
    assert box.target() is None
    assert new.keyid in anna.publisher.current().root.signed.roles["root"].keyids
    assert ben.fetch()
    assert ben.publisher.current().root.signed.version == 2
    assert not ben.fetch()


def test_signatures_may_come_one_by_one(running):
    anna, ben, cleo = running
    outcome = operations.refresh(anna.publisher, ["root"])
    assert not outcome.done
    request = anna.publisher.request()
    # Ben combines in his folder; what is missing there is Cleo's or Anna's signature, and Anna's is in the request.
    anna_alone = json.loads(request)
    anna_alone["metadata"]["root"]["signatures"] = []
    stripped = json.dumps(anna_alone).encode()
    first = combined(ben, stripped, signed(ben, stripped))
    assert [need.missing for need in first.missing] == [1, 1]
    both = combined(anna, stripped, signed(cleo, stripped))
    assert both.done


def test_other_releases_go_on_while_a_root_waits(running, tmp_path):
    anna, _, cleo = running
    operations.refresh(anna.publisher, ["root"])
    with pytest.raises(AlreadyExists, match="waits for signatures"):
        operations.rotate(anna.publisher, "root")
    assert len(list(anna.workspace.keys.glob("root.*.pem"))) == 1
    anna.pack(tmp_path / "m")
    assert anna.release().done
    request = anna.publisher.request()
    assert combined(anna, request, signed(cleo, request)).done
    assert anna.publisher.current().root.signed.version == 2


def test_lines_with_a_threshold(tmp_path):
    remote = MemoryRegistry()
    settings = {"thresholds": Thresholds(root=1, line=2)}
    anna, ben = (Desk(tmp_path / name, remote, **settings) for name in ("anna", "ben"))
    assert operations.init(anna.publisher, root_keys=1).done
    files = []
    for person in (anna, ben):
        key = person.publisher.signers.create("models.press")
        files.append(person.workspace.keys / f"{keys.stem('models.press', key.keyid)}.pub")
    with pytest.raises(InvalidArgument, match="threshold of 2"):
        operations.line_add(anna.publisher, "press", [files[0], files[0]])
    outcome = operations.line_add(anna.publisher, "press", files)
    assert [(need.role, need.missing) for need in outcome.missing] == [("models.press", 1)]
    with pytest.raises(AlreadyExists):
        operations.line_add(anna.publisher, "iris")


def altered(request: bytes, **paths: object) -> bytes:
    document = json.loads(request)
    for path, value in paths.items():
        at = document
        *steps, last = path.split("__")
        for step in steps:
            at = at[step]
        at[last] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"changes": ["root: nothing to see here"]}, InvalidArgument, "was altered"),
        ({"metadata__root__signed__expires": "2099-01-01T00:00:00Z"}, InvalidArgument, "was altered"),
        ({"metadata__root__signed__consistent_snapshot": False}, InvalidArgument, "was altered"),
        ({"metadata__root__signed__hidden": 1}, InvalidArgument, "was altered"),
        ({"metadata__root__signed__version": 3}, FailedPrecondition, "would be next"),
        ({"metadata__root__signed__version": 1}, FailedPrecondition, "would be next"),
        ({"metadata__root__signed___type": "targets"}, InvalidArgument, "can't be used"),
        ({"metadata__root": 7}, InvalidArgument, "no TUF metadata"),
        ({"metadata": {}}, FailedPrecondition, "not here"),
        ({"metadata__snapshot": {}}, InvalidArgument, "no role that people sign"),
        ({"schema": "else"}, InvalidArgument, "schema"),
        ({"schema_version": 2}, InvalidArgument, "version 2"),
        ({"more": 1}, InvalidArgument, "unknown field"),
    ],
)
def test_tampered_requests(running, change, error, text):
    anna, ben, _ = running
    operations.refresh(anna.publisher, ["root"])
    request = anna.publisher.request()
    assert ben.publisher.check_request(request)
    with pytest.raises(error, match=text):
        ben.publisher.check_request(altered(request, **change))


def test_a_key_slipped_in_is_seen(running):
    """The attacker also rewrites the words: the signer sees them, because they must be what really changes."""
    anna, ben, _ = running
    operations.refresh(anna.publisher, ["root"])
    document = json.loads(anna.publisher.request())
    root = document["metadata"]["root"]["signed"]
    root["keys"]["aa" * 32] = next(iter(root["keys"].values()))
    root["roles"]["targets"]["keyids"].append("aa" * 32)
    with pytest.raises(InvalidArgument):
        ben.publisher.check_request(json.dumps(document).encode())
    from appliance.publish.release import describe, requests

    change = {"root": requests._metadata("root", document["metadata"]["root"])}
    words = describe.words(ben.publisher.current(), change)
    assert any("roles.targets.keyids[1]" in line for line in words)


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda s: s | {"request": "00" * 32}, "another request"),
        (lambda s: s | {"signatures": [s["signatures"][0] | {"sig": "00" * 64}]}, "not one that counts"),
        (lambda s: s | {"signatures": [s["signatures"][0] | {"sig": "no hex"}]}, "not one that counts"),
        (lambda s: s | {"signatures": [s["signatures"][0] | {"keyid": "ab" * 32}]}, "not one that counts"),
        (lambda s: s | {"signatures": [s["signatures"][0] | {"role": "targets"}]}, "doesn't change"),
        (lambda s: {"schema": s["schema"]}, "missing required field"),
    ],
)
def test_bad_signature_files(running, edit, text):
    anna, ben, _ = running
    operations.refresh(anna.publisher, ["root"])
    request = anna.publisher.request()
    good = signed(ben, request)
    bad = json.dumps(edit(json.loads(good))).encode()
    with pytest.raises(InvalidArgument, match=text):
        combined(anna, request, bad)
    assert anna.publisher.current().root.signed.version == 1
    assert combined(anna, request, good).done


def test_nothing_to_sign_and_nothing_to_request(running):
    anna, ben, _ = running
    operations.refresh(anna.publisher, ["root"])
    request = anna.publisher.request()
    with pytest.raises(FailedPrecondition, match="have signed"):
        signed(anna, request)
    with pytest.raises(NotFound, match="no change waits"):
        ben.publisher.request()


def test_a_folder_behind_is_told_to_fetch(running):
    anna, ben, cleo = running
    operations.refresh(anna.publisher, ["root"])
    request = anna.publisher.request()
    assert combined(anna, request, signed(cleo, request)).done
    operations.refresh(anna.publisher, ["root"])
    later = anna.publisher.request()
    with pytest.raises(FailedPrecondition, match="fetch"):
        ben.publisher.check_request(later)
    anna.publish()
    assert ben.fetch()
    assert combined(anna, later, signed(ben, later)).done


def test_a_change_that_others_went_past_can_only_be_discarded(running):
    from publishing import registry

    from appliance.publish.release.status import status

    anna, ben, cleo = running
    operations.refresh(anna.publisher, ["root"])
    request = anna.publisher.request()
    ben.publisher.workspace.put_pending(request)
    assert combined(anna, request, signed(cleo, request)).done
    anna.publish()
    assert ben.fetch()
    with pytest.raises(FailedPrecondition, match="--discard"):
        operations.refresh(ben.publisher)
    assert "--discard" in status(ben.publisher, registry(ben.remote)).waiting.missing
    ben.workspace.drop_pending()
    assert status(ben.publisher, registry(ben.remote)).waiting is None


def test_metadata_that_no_box_would_read_are_not_made(running, monkeypatch):
    from appliance import limits
    from appliance.errors import ResourceExhausted

    anna, *_ = running
    before = anna.workspace.files()
    monkeypatch.setattr(limits, "tuf_timestamp_bytes_max", 100)
    with pytest.raises(ResourceExhausted, match=r"timestamp\.json"):
        operations.refresh(anna.publisher)
    assert anna.workspace.files() == before
