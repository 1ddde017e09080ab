"""scripts/bench_pull runs from one end to the other, and says so when nothing came."""

import shutil
import sys
from pathlib import Path

import pytest
from bench import pull
from bench.target import BenchError


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
def test_both_ways_are_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert pull.main(["--mb", "4", "--files", "2", "--rounds", "1", "--folder", str(tmp_path)]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["mb_per_s", "synced_mb_per_s", "rss_mb"]
    assert [row.split()[0] for row in rows] == ["appliance", "skopeo", "ratio"]
    assert all(float(figure.replace(",", "")) > 0 for row in rows for figure in row.split()[1:])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("program", "words"), [("pass", "brought 0 of 10 bytes"), ("raise SystemExit('no such layout')", "no such layout")]
)
def test_a_pull_that_brings_nothing_is_no_figure(tmp_path: Path, program: str, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        pull.timed([sys.executable, "-c", program], tmp_path / "into", 10)


@pytest.mark.parametrize("option", ["--mb", "--files", "--parallel", "--rounds"])
def test_nonsense_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pull.main([option, "0"]) == 2
    assert f"{option} must be above 0" in capsys.readouterr().err
