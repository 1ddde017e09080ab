"""A stick that is pulled out at every single opening and reading: a typed error, nothing lost, and the next import completes."""

import errno
from pathlib import Path

import pytest
import sticks

from appliance.errors import ApplianceError
from appliance.registry.trust.failures import Untrusted

BIG = bytes(range(256)) * 4096


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOENT, errno.ENODEV], ids=errno.errorcode.get)
def test_pulled_out_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    desk = sticks.desk(tmp_path / "hq", **{"weights/big.bin": BIG})
    sticks.exported(desk, tmp_path / "stick")
    out = sticks.PulledOut(monkeypatch, number)
    whole = sticks.Box(tmp_path / "whole", desk.root(), desk.clock)
    assert whole.visit(tmp_path / "stick") == ["press:1.0.0"]
    steps, bytes_whole = out.seen, whole.bytes()
    assert steps > 30
    failed: list[ApplianceError] = []
    for at in range(1, steps + 1):
        box = sticks.Box(tmp_path / f"box-{at}", desk.root(), desk.clock)
        out.seen, out.at = 0, at
        try:
            box.visit(tmp_path / "stick")
        except ApplianceError as error:
            failed.append(error)
        had, came = box.bytes(), {path.name for path in box.blobs.folder.iterdir()}
        out.seen = out.at = 0
        assert box.visit(tmp_path / "stick") == ["press:1.0.0"]
        assert came <= {path.name for path in box.blobs.folder.iterdir()}
        assert had <= box.bytes() == bytes_whole
    # Whoever has every byte of the last blob needs no answer that this was all.
    assert len(failed) >= steps - 1
    # Nobody is told of an attack where a stick was pulled out.
    assert not [error for error in failed if isinstance(error, Untrusted)]


def test_what_came_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = sticks.desk(tmp_path / "hq", **{"weights/big.bin": BIG})
    sticks.exported(desk, tmp_path / "stick")
    out = sticks.PulledOut(monkeypatch)
    box = sticks.Box(tmp_path / "box", desk.root(), desk.clock)
    box.visit(tmp_path / "stick")
    first, out.seen = out.seen, 0
    box.visit(tmp_path / "stick")
    assert out.seen < first / 2
