"""What of probation and quarantine survives a restart in desired.json, and what older files say of it."""

import json
from pathlib import Path

from appliance.store.desired import DesiredFile
from appliance.versions import BadVersion, Desired, Measured, OnProbation

BAD = BadVersion("3", "sha256:3", "6 of 30 calls failed", 1_700_000_000_000)
TRIAL = OnProbation(1_700_000_000_000, 600.0, Measured(12, 2, ((8, 4), (20, 6))), keep_previous=True)


def written(folder: Path) -> dict[str, object]:
    (entry,) = json.loads((folder / "desired.json").read_text())["desired"]
    return dict(entry)


def test_a_probation_and_a_quarantine_survive(tmp_path: Path) -> None:
    desired = Desired("m", "2", ("1",), "1", TRIAL, (BAD,))
    DesiredFile(tmp_path).set(desired)
    again = DesiredFile(tmp_path)
    assert again.models == {"m": desired}
    assert again.faults() == []


def test_where_there_is_nothing_to_say_the_file_is_as_it_was_before(tmp_path: Path) -> None:
    """A box that was updated must not find its own file damaged."""
    file = DesiredFile(tmp_path)
    file.set(Desired("m", "2", ("1",), "1", TRIAL, (BAD,)))
    file.set(Desired("m", "2", ("1",), "1"))
    assert written(tmp_path) == {"name": "m", "active": "2", "beside": ["1"], "previous": "1"}
    again = DesiredFile(tmp_path)
    assert again.models == {"m": Desired("m", "2", ("1",), "1")}
    assert again.faults() == []


def test_what_is_quarantined_is_remembered_though_nothing_runs(tmp_path: Path) -> None:
    file = DesiredFile(tmp_path)
    file.set(Desired("m", "", (), "", None, (BAD,)))
    assert DesiredFile(tmp_path).models["m"].quarantined == (BAD,)
    file.set(Desired("m"))
    assert DesiredFile(tmp_path).models == {}


def test_a_wrong_shape_is_set_aside_like_any_other_damage(tmp_path: Path) -> None:
    file = DesiredFile(tmp_path)
    file.set(Desired("m", "2", (), "1", TRIAL))
    (tmp_path / "desired.copy.json").unlink()
    text = (tmp_path / "desired.json").read_text().replace("600.0", '"for ever"')
    (tmp_path / "desired.json").write_text(text)
    assert DesiredFile(tmp_path).models == {}
    assert (tmp_path / "desired.json.broken").exists()
