"""scripts/export_sklearn: arguments, what is printed, exit status."""

import json
import re
import subprocess
import sys
from pathlib import Path

import joblib
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from appliance.cli.exit_codes import BY_STATUS, ExitCode
from appliance.publish import command
from appliance.store.model_folder import read

CARD = ["--licence", "BSD", "--source", "a test", "--intended-use", "tests", "--limits", "none"]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """rows.csv with the target, and model.joblib fitted on it."""
    folder = tmp_path_factory.mktemp("files")
    data = load_iris(as_frame=True)
    data.frame.assign(serial=range(150)).to_csv(folder / "rows.csv", index=False)
    joblib.dump(LogisticRegression(max_iter=3000).fit(data.data, data.target), folder / "model.joblib")
    return folder


def arguments(files, output, *more, card=CARD):
    named = ["--name", "iris", "--version", "1.0.0", "--data", str(files / "rows.csv"), "--target", "target"]
    return [str(files / "model.joblib"), "--output", str(output), *named, *card, *more]


def test_a_folder_out_of_files(files, tmp_path, capsys):
    assert command.main(arguments(files, tmp_path / "iris", "--labels", "setosa, versicolor,virginica")) == 0
    out, progress = capsys.readouterr()
    assert f"iris 1.0.0: {tmp_path / 'iris'}" in out
    assert "3 golden tests passed" in out
    assert f"Now: appliance models add {tmp_path / 'iris'}" in out
    assert "export_sklearn: asking the LogisticRegression about 150 rows of 4 columns" in progress
    assert "export_sklearn: proving the folder" in progress
    assert read(tmp_path / "iris").spec.name == "iris"
    assert (tmp_path / "iris" / "labels.txt").read_text() == "setosa\nversicolor\nvirginica\n"


def test_json(files, tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    more = ["--json", "--quiet", "--labels-file", str(tmp_path / "labels.txt"), "--held-back", "9", "--float32"]
    assert command.main(arguments(files, tmp_path / "iris", *more)) == 0
    out, progress = capsys.readouterr()
    assert progress == ""
    told = json.loads(out)
    assert (told["name"], told["rows"], told["held_back"]) == ("iris", 150, 9)
    assert told["classes"] == ["a", "b", "c"]
    assert told["files"].keys() == {f.path for f in read(tmp_path / "iris").files}


def test_other_rows_held_back(files, tmp_path, capsys):
    pd.read_csv(files / "rows.csv").iloc[::3].to_csv(tmp_path / "held.csv", index=False)
    more = ["--json", "--held-back-data", str(tmp_path / "held.csv")]
    assert command.main(arguments(files, tmp_path / "iris", *more)) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["held_back"] == 50
    assert told["score"] > 0.9


@pytest.mark.parametrize(
    ("more", "status", "says"),
    [
        (["--name", "Iris"], 6, "allowed are lower-case"),
        (["--target", "y"], 6, "no column 'y'"),
        (["--data", "none.csv"], 6, "none.csv can't be read"),
        (["--labels-file", "none.txt"], 6, "none.txt can't be read"),
        (["--licence", ""], 6, "the card must say more.*licence"),
        (["--tolerance", "0"], 7, "are beyond 0"),
    ],
)
def test_failures(files, tmp_path, capsys, more, status, says):
    assert command.main(arguments(files, tmp_path / "iris", "--json", *more)) == status
    out, err = capsys.readouterr()
    error = json.loads(out)["error"]
    assert error["exit_status"] == status
    assert error["message"] in err
    assert re.search(says, error["message"])
    assert not (tmp_path / "iris").exists()


def test_an_existing_folder(files, tmp_path, capsys):
    assert command.main(arguments(files, tmp_path / "iris")) == 0
    assert command.main(arguments(files, tmp_path / "iris")) == 7
    assert "the folder iris exists; --force replaces it" in capsys.readouterr().err
    assert command.main(arguments(files, tmp_path / "iris", "--force")) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["--labels", "a,b,c", "--labels-file", "x.txt"],
        ["--delimiter", "::"],
        ["--held-back", "many"],
        ["--layout", "rows"],
        ["--no-such-option"],
    ],
)
def test_wrong_use(files, tmp_path, capsys, wrong):
    with pytest.raises(SystemExit) as caught:
        command.main(arguments(files, tmp_path / "iris", *wrong) if wrong else [])
    assert caught.value.code == 2
    assert "usage: scripts/export_sklearn" in capsys.readouterr().err


@pytest.mark.parametrize(("raised", "status"), [(KeyboardInterrupt(), 130), (ZeroDivisionError("x"), 1)])
def test_what_nobody_expected(files, tmp_path, capsys, monkeypatch, raised, status):
    def fails(_):
        raise raised

    monkeypatch.setattr(command, "_export", fails)
    monkeypatch.delenv("APPLIANCE_DEBUG", raising=False)
    assert command.main(arguments(files, tmp_path / "iris")) == status


def test_exit_codes_are_the_command_line_s():
    assert {code.value: status for code, status in command.BY_CODE.items()}.items() <= BY_STATUS.items()
    assert (command.OK, command.USAGE, command.INTERRUPTED) == (ExitCode.OK, ExitCode.USAGE, ExitCode.INTERRUPTED)


def test_help_loads_no_library_and_has_an_example():
    script = Path(__file__).parents[3] / "scripts" / "export_sklearn"
    assert "--held-back" in subprocess.run([script, "--help"], capture_output=True, text=True, check=True).stdout
    code = (
        "import sys; from appliance.publish import command; print(*({'sklearn', 'numpy', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
