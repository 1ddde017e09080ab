"""The budget of a call and the many models: tables and folders; stages with the daemon's real functions."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest
from bench import call_budget, call_stages, models, tiny_models
from bench.call_budget import PROCESSES, Load, median_load, per_call, process_table, stage_table
from bench.payload import InputSpec, build_request
from bench.process_costs import Usage

from appliance.cli import upload

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
USED = {"cpu_us": 100.0, "waited_us": 5.0, "voluntary": 1.5, "involuntary": 0.25}


def _load(in_flight, rate, cpu_us=100.0):
    return Load(in_flight, rate, 250.0, 3.4, {name: {**USED, "cpu_us": cpu_us} for name in PROCESSES})


def test_what_was_used_is_shared_out_over_the_calls():
    assert per_call(Usage(5_000_000, 1_000_000, 300, 50), 100) == {
        "cpu_us": 50, "waited_us": 10, "voluntary": 3, "involuntary": 0.5,
    }  # fmt: skip


def test_rounds_give_medians():
    middle = median_load([_load(4, 1000.0, 10.0), _load(4, 5000.0, 99.0), _load(4, 2000.0, 20.0)])
    assert (middle.calls_per_s, middle.per_call["engine"]["cpu_us"]) == (2000, 20)


def test_tables_can_be_pasted_and_tell_what_is_left_over():
    loads = [_load(1, 2000.0), _load(64, 5000.0)]
    table = process_table(loads)
    assert "| calls a second | 2,000 | 5,000 |" in table
    assert "| engine: µs of a processor | 100 | 100 |" in table
    assert "| front-end: switches, own + forced | 1.50 + 0.25 | 1.50 + 0.25 |" in table
    assert len({line.count("|") for line in table.splitlines()}) == 1
    stages = [
        [("front-end", "parse", 10.0), ("engine", "run", 30.0)],
        [("front-end", "parse", 9.0), ("engine", "run", 4.0)],
    ]
    lines = stage_table(loads, stages).splitlines()
    assert lines[0] == "| µs a call | process | 1 in flight (batch 3) | 64 in flight (batch 3) |"
    assert "| run | engine | 30.0 | 4.0 |" in lines
    assert lines[-2:] == ["| rest | front-end | 90.0 | 91.0 |", "| rest | engine | 70.0 | 96.0 |"]


@pytest.mark.parametrize("batch", [1, 4])
def test_every_stage_of_a_real_engine_takes_time(tmp_path, monkeypatch, batch):
    monkeypatch.setattr(call_stages, "REPEATS", 3)
    monkeypatch.setattr(call_stages, "CALLS_PER_REPEAT", 8)
    name = tiny_models.write(tmp_path, 1)
    stages = call_stages.Stages(tmp_path / name, build_request(name, "", [InputSpec("x", "FP32", (1, 30))]))
    try:
        found = stages.measure(batch)
    finally:
        stages.close()
    assert [process for process, _, _ in found] == ["front-end"] * 3 + ["engine"] * 5 + ["front-end"] * 2
    # What lies between the run and the rest of a step may be less than the clock tells.
    assert all(us > 0 for _, stage, us in found if not stage.startswith("put the batch together"))


def test_tiny_models_are_whole_folders_and_none_is_like_another(tmp_path):
    import onnxruntime

    names = [tiny_models.write(tmp_path, number) for number in range(3)]
    assert len(set(names)) == 3
    assert all(upload.plan(tmp_path / name).total > 0 for name in names)
    row = np.ones((1, 30), np.float32)
    answers = [onnxruntime.InferenceSession(tmp_path / n / "model.onnx").run(None, {"x": row})[0] for n in names]
    assert not np.allclose(answers[0], answers[1])
    assert answers[0].sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("main", "options", "complaint"),
    [
        (models.main, ["--loaded", "3", "--registered", "2"], "is more than --registered 2"),
        (models.main, ["--rounds", "0"], "--rounds must be above 0"),
        (call_budget.main, ["--rounds", "0"], "must be above 0"),
    ],
)
def test_options_that_make_no_sense_are_told(main, options, complaint, capsys):
    assert main(options) == 2
    assert complaint in capsys.readouterr().err


def test_entries_are_executable_and_named_in_their_help():
    for name in ("stream", "tensors", "mixed", "models", "call_budget"):
        entry = SCRIPTS / f"bench_{name}"
        assert os.stat(entry).st_mode & stat.S_IXUSR
        assert f"-m bench.{name} " in entry.read_text()
        assert f"scripts/bench_{name}" in (SCRIPTS / "bench" / f"{name}.py").read_text()
