"""scripts/bench_pull runs from one end to the other, and says so when nothing came."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from bench import pull
from bench.target import BenchError

needs_skopeo = pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
needs_registry = pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is not installed")


@needs_skopeo
def test_both_ways_are_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["--from", "layout", "--shapes", "2x4", "--rounds", "1", "--folder", str(tmp_path)]
    assert pull.main(words) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["layout", "2x4", "mb_per_s", "synced_mb_per_s", "rss_mb"]
    assert [row.split()[0] for row in rows] == ["appliance", "skopeo", "ratio"]
    assert all(float(figure.replace(",", "")) > 0 for row in rows for figure in row.split()[1:])
    assert list(tmp_path.iterdir()) == []


@needs_skopeo
@needs_registry
@pytest.mark.parametrize(
    ("kind", "told"), [("http", "http: an idle poll: 2 requests, "), ("https", "https: an idle poll: ")]
)
def test_a_registry_over_http(capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str, told: str) -> None:
    assert pull.main(["--from", kind, "--shapes", "1x1", "--rounds", "1", "--folder", str(tmp_path)]) == 0
    head, *rows, poll = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == [kind, "1x1"]
    assert len(rows) == 3
    assert poll.startswith(told)
    assert list(tmp_path.iterdir()) == []


@needs_skopeo
def test_rounds_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert pull.main(["--from", "layout", "--shapes", "1x1", "2x2", "--rounds", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["from"], one["files"], one["mb"], len(one["skopeo"])) for one in found] == [
        ("layout", 1, 1, 2), ("layout", 2, 2, 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("program", "words"), [("pass", "brought 0 of 10 bytes"), ("raise SystemExit('no such layout')", "no such layout")]
)
def test_a_pull_that_brings_nothing_is_no_figure(tmp_path: Path, program: str, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        pull.timed([sys.executable, "-c", program], tmp_path / "into", 10)


@pytest.mark.parametrize("option", ["--parallel", "--rounds"])
def test_nonsense_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pull.main([option, "0"]) == 2
    assert f"{option} must be above 0" in capsys.readouterr().err


@pytest.mark.parametrize("shape", ["4", "x", "0x5", "4x", "9x8", "-1x4", "1x2x3"])
def test_a_shape_that_is_none(shape: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        pull.main(["--shapes=" + shape])
    assert "is not FILESxMB" in capsys.readouterr().err


def test_without_the_programs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "docker-registry" else name)
    assert pull.main(["--from", "layout", "http"]) == 2
    assert "docker-registry is not installed" in capsys.readouterr().err
