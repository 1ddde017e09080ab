"""What bench_update counts as calls of the switch."""

import numpy as np
import pytest
from bench.metronome import Calls
from bench.update import main, split

MS = 1_000_000


def test_calls_are_split_by_when_they_were_due() -> None:
    due = np.array([0, 10, 20, 30], np.int64) * MS
    took = np.array([1, 5, 7, 2], np.int64) * MS
    parts = split(Calls(due, due, due + took, failed=3), 10 * MS, 30 * MS)
    assert (parts["switch"].calls, parts["steady"].calls) == (2, 2)
    assert parts["switch"].figures["max_ms"] == 7
    assert parts["steady"].figures["max_ms"] == 2
    assert (parts["switch"].errors, parts["steady"].errors) == ({"FAILED": 3}, {})


def test_without_a_model_nothing_is_measured(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--models", str(tmp_path)]) == 2
    assert "no such model folder" in capsys.readouterr().err
