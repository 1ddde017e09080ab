"""From answers and what is there to steps: nothing is read or written here."""

from pathlib import Path

import pytest
from setup_world import DAY, NOW, Organisation, answers, layout

from appliance.errors import InvalidArgument
from appliance.setup import certificates, organisation, plan
from appliance.setup.answers import Files
from appliance.setup.plan import IssueClient, IssueServer, MakeAuthority, Present, SetAccess, Write

PLACE = layout(Path("/x"))
TEXTS = [(PLACE.settings, "[server]\n")]
NAMES = answers().names


@pytest.fixture(scope="module")
def authority():
    return certificates.make_authority("CA", NOW)


@pytest.fixture(scope="module")
def server(authority):
    return certificates.issue_server(authority, NAMES, NOW)


@pytest.fixture
def complete_box(authority, server):
    files = {PLACE.key: certificates.key_pem(server.key), PLACE.settings: b"[server]\n"}
    return Present(files, authority.certificate, server.certificate, True, frozenset({"one"}))


def decide(said, present, taken=None, now=NOW):
    return plan.decide(said, present, taken, PLACE, TEXTS, "box", now)


def test_an_empty_box():
    steps = decide(answers(clients=("one",)), Present({})).steps
    assert steps == (
        MakeAuthority("Inference Appliance CA of box"),
        IssueServer(NAMES, True, ""),
        IssueClient("one"),
        Write(PLACE.settings, b"[server]\n", keep=True),
    )


def test_a_complete_box(complete_box):
    decided = decide(answers(clients=("one",)), complete_box)
    assert decided.steps == ()
    assert [kept.split(",")[0] for kept in decided.kept] == [
        "the authority of this box",
        "the server's certificate",
        "/x/etc/clients/one (anew: appliance setup client one --renew)",
        "/x/etc/conf.d/50-setup.toml",
    ]


def test_without_tls():
    assert decide(answers(tls="off"), Present({})).steps == (Write(PLACE.settings, b"[server]\n", keep=True),)


def test_server_only_has_an_authority_too():
    assert decide(answers(tls="server"), Present({})).steps[:2] == (
        MakeAuthority("Inference Appliance CA of box"),
        IssueServer(NAMES, True, ""),
    )


def test_when_the_servers_certificate_is_made_anew(complete_box, server):
    def only(said, present, now=NOW):
        (step,) = decide(said, present, now=now).steps
        return step

    names = answers(names=("new.example",))
    assert only(names, complete_box) == IssueServer(names.names, False, "the one before was not for new.example")
    assert only(answers(renew=True), complete_box) == IssueServer(NAMES, True, "renewed, with a new key")
    lost = complete_box._replace(files={PLACE.settings: b"[server]\n"}, key_fits=None)
    assert only(answers(), lost) == IssueServer(NAMES, True, "its key was not there")
    other = complete_box._replace(key_fits=False)
    assert only(answers(), other) == IssueServer(NAMES, False, "its key was another's")
    cut_off = complete_box._replace(certificate=None, key_fits=None)
    assert only(answers(), cut_off) == IssueServer(NAMES, False, "")
    late = NOW + 826 * DAY
    assert only(answers(), complete_box, late).why.startswith("the one before expired on 2029-06-03")


def test_texts_and_modes(complete_box):
    changed = complete_box._replace(
        files={**complete_box.files, PLACE.settings: b"old"}, loose={PLACE.key: plan.SERVICE_SECRET}
    )
    assert decide(answers(), changed).steps == (
        SetAccess(PLACE.key, plan.SERVICE_SECRET),
        Write(PLACE.settings, b"[server]\n", keep=True),
    )


@pytest.fixture
def org(tmp_path):
    return Organisation(tmp_path)


def taken_from(org, *, clients=True):
    paths = org.paths
    files = Files(
        paths["server.pem"], paths["server.key"], paths["clients.pem"] if clients else None, paths["root.pem"]
    )
    return organisation.take(files, ("box",), NOW, said=False)


def test_the_organisations(org):
    taken = taken_from(org)
    said = answers(certificate=org.paths["server.pem"], key=org.paths["server.key"])
    steps = decide(said, Present({}), taken).steps
    assert [step.path for step in steps] == [
        PLACE.server_ca,
        PLACE.client_ca,
        PLACE.key,
        PLACE.certificate,
        PLACE.settings,
    ]
    assert steps[2].access == plan.SERVICE_SECRET
    there = {step.path: step.data for step in steps}
    present = Present(there, None, org.server.certificate, True)
    assert decide(said, present, taken).steps == ()
    # A run without them later leaves them alone.
    assert decide(answers(), present).steps == ()
    assert not plan.own_clients(answers(), present, None, PLACE)


def test_who_signs_clients_stays_as_it_was_said(org, authority):
    """Also where this box had an authority before, and where the organisation has given a server's certificate only."""
    there = {PLACE.client_ca: org.paths["clients.pem"].read_bytes(), PLACE.key: org.paths["server.key"].read_bytes()}
    both = Present(there, authority.certificate, org.server.certificate, True)
    assert not plan.own_clients(answers(), both, None, PLACE)
    assert not plan.own_clients(answers(), both, taken_from(org, clients=False), PLACE)
    only_server = Present({PLACE.key: there[PLACE.key]}, None, org.server.certificate, True)
    assert plan.own_clients(answers(), only_server, None, PLACE)
    assert decide(answers(), only_server).steps[0] == MakeAuthority("Inference Appliance CA of box")


def test_the_organisations_server_and_own_clients(org):
    taken = taken_from(org, clients=False)
    said = answers(certificate=org.paths["server.pem"], key=org.paths["server.key"], clients=("one",))
    steps = decide(said, Present({}), taken).steps
    assert steps[0] == MakeAuthority("Inference Appliance CA of box")
    assert IssueClient("one") in steps
    assert not any(isinstance(step, IssueServer) for step in steps)


def test_a_key_is_never_replaced_unasked(org, complete_box):
    taken = taken_from(org)
    with pytest.raises(InvalidArgument, match=r"/x/etc/tls/server.key is there, and is another key: add --renew"):
        decide(answers(), complete_box, taken)
    steps = decide(answers(renew=True), complete_box, taken).steps
    assert [step.path for step in steps if step.keep] == [
        PLACE.server_ca,
        PLACE.client_ca,
        PLACE.key,
        PLACE.certificate,
    ]


def test_only_who_signed_it_can_renew_it(org, complete_box, authority):
    theirs = complete_box._replace(certificate=org.server.certificate)
    with pytest.raises(InvalidArgument, match="not of this box: give the new one with --certificate and --key"):
        decide(answers(renew=True), theirs)
    with pytest.raises(InvalidArgument, match="was not signed by this box"):
        plan.renewal(theirs, ("box",), NOW, due_only=False, new_key=False)
    with pytest.raises(InvalidArgument, match="run `appliance setup` first"):
        plan.renewal(Present({}), (), NOW, due_only=False, new_key=False)


@pytest.mark.parametrize(("days_left", "renewed"), [(31, False), (29, True), (-1, True)])
def test_renewal_when_due(complete_box, days_left, renewed):
    now = NOW + (825 - days_left) * DAY
    decided = plan.renewal(complete_box, ("box",), now, due_only=True, new_key=False)
    assert bool(decided.steps) == renewed
    assert plan.renewal(complete_box, ("box",), NOW, due_only=False, new_key=True).steps == (
        IssueServer(("box",), True, "renewed"),
    )
