"""The table of events, and the catalogue that is made from it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from appliance import events
from appliance.cli.main import run

ROOT = Path(__file__).parents[3]
CATALOGUE = ROOT / "packaging/systemd/inference-appliance.catalog"


def test_ids_and_names_are_unique_and_well_formed() -> None:
    assert len(events.ALL) > 50
    assert len({kind.message_id for kind in events.ALL}) == len({kind.name for kind in events.ALL}) == len(events.ALL)
    for kind in events.ALL:
        assert re.fullmatch(r"[0-9a-f]{32}", kind.message_id), kind.name
        assert re.fullmatch(r"[a-z_]+\.[a-z_]+", kind.name)
        assert getattr(events, kind.name.upper().replace(".", "_")) is kind
        assert all(text and text[-1] in ".)" for text in (kind.means, kind.do)), kind.name
        assert len(kind.subject) <= 70
        assert kind.subject[-1] != "."


@pytest.mark.parametrize(
    ("kind", "message_id"),
    [
        (events.SERVICE_READY, "c20a08b30ef74367b8d86af3187150d2"),
        (events.ENGINE_DIED, "d1d8440d5ed94c2cb12c9327f6b86f31"),
        (events.CALL_FAILED, "c71b974eaab6465b9f4461446ef5ed65"),
        (events.MODEL_ROLLED_BACK, "621e0cd7351d4314a52be8bfb3948748"),
    ],
)
def test_ids_never_change(kind: events.Kind, message_id: str) -> None:
    """Alarms of operators hang on them. Some stand for all."""
    assert kind.message_id == message_id


def test_empty_fields_are_left_out() -> None:
    assert events.ENGINE_DIED.of("m", part="")["facts"] == {
        "event": "engine.died",
        "message_id": events.ENGINE_DIED.message_id,
        "model": "m",
    }


def test_the_catalogue_is_in_step() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts/gen_catalog", "--check"], check=False)
    assert done.returncode == 0, "run scripts/gen_catalog"


def test_the_catalogue_fits_a_screen() -> None:
    assert max(map(len, CATALOGUE.read_text().splitlines()[1:])) <= 76


@pytest.mark.skipif(not shutil.which("journalctl"), reason="journalctl is not installed")
def test_journalctl_takes_the_catalogue(tmp_path: Path) -> None:
    folder = tmp_path / "usr/lib/systemd/catalog"
    folder.mkdir(parents=True)
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    shutil.copy(CATALOGUE, folder)

    def journalctl(option: str) -> str:
        words = ["journalctl", f"--root={tmp_path}", option]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout

    journalctl("--update-catalog")
    listed = journalctl("--list-catalog")
    for kind in events.ALL:
        assert f"{kind.message_id} Inference Appliance: {kind.subject}" in listed
    dumped = journalctl("--dump-catalog")
    assert "What to do: Nothing once. If it repeats, the version is quarantined" in dumped


def test_the_commands_that_it_names_exist(capsys: pytest.CaptureFixture[str]) -> None:
    named = {
        tuple(word for word in command.split()[1:] if word[0] not in "-@")
        for kind in events.ALL
        for command in re.findall(r"`(appliance [^`]+)`", kind.means + kind.do)
    }
    assert ("store", "check") in named
    for words in named:
        assert run([*words, "--help"]) == 0, words
