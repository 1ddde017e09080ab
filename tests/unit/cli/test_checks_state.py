"""`appliance doctor` on a state folder: new, ours, older, of a newer version, damaged."""

from pathlib import Path

import pytest

from appliance.cli.checks import Check
from appliance.cli.checks_state import check_state
from appliance.state import backup
from appliance.state.stamp import FORMAT, Stamp

OURS = f'{{"format": {FORMAT}, "written_by": "0.1.0"}}'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (OURS, f"in format {FORMAT}"),
        ('{"format": 1}', "in format 1; the next start makes a backup and upgrades it"),
    ],
)
def test_what_can_be_used(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "format.json").write_text(text)
    assert list(check_state(tmp_path)) == [Check("state", "ok", found)]


def test_a_new_folder_has_nothing_to_find(tmp_path: Path) -> None:
    assert list(check_state(tmp_path)) == []


def test_a_newer_version_wrote_it(tmp_path: Path) -> None:
    name = backup.make(tmp_path, Stamp(FORMAT, "0.1.0"))
    (tmp_path / "format.json").write_text('{"format": 99, "written_by": "9.0.0"}')
    (check,) = check_state(tmp_path)
    assert (check.level, "by 9.0.0 in format 99" in check.found) == ("bad", True)
    assert check.advice.startswith("install 9.0.0 again")
    assert f"`appliance state restore {name}`" in check.advice


def test_a_damaged_stamp(tmp_path: Path) -> None:
    (tmp_path / "format.json").write_text("{")
    (check,) = check_state(tmp_path)
    assert (check.level, check.advice.startswith("if this program wrote to it last")) == ("bad", True)
