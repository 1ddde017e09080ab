"""What `appliance models compare` prints of a comparison, and `appliance status` of one that is going on."""

import pytest

from appliance.cli.comparison_page import print_comparison
from appliance.pb.appliance.v1.admin_pb2 import ComparedSide, ComparisonResponse, EngineCounters, RunningComparison


def page(capsys: pytest.CaptureFixture[str], **fields: object) -> str:
    print_comparison(ComparisonResponse(name="press", **fields))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    return " ".join(out.split())


def test_one_that_has_just_begun(capsys: pytest.CaptureFixture[str]) -> None:
    sides = {"active": ComparedSide(version="1.0.0"), "candidate": ComparedSide(version="2.0.0")}
    text = page(capsys, mode="canary", percent=5, outcome="running", calls_wanted=200, seconds_wanted=600, **sides)
    assert "press: canary, running; an operator decides" in text
    assert "2.0.0 answers 5 % of the calls that name no version until 200 calls or 10m" in text
    assert "TOKENS" not in text
    assert "0 of 0 calls; 0 answered by both" in text


def test_one_that_has_seen_everything_fits(capsys: pytest.CaptureFixture[str]) -> None:
    side = {
        "version": "12.345.678-rc.1", "calls": 10**9, "failed": 10**8, "median_ms": 12345.678, "p99_ms": 98765.4,
        "tokens": 10**12, "tokens_per_second": 12345.6, "first_piece_ms": 4321.5,
    }  # fmt: skip
    many = ("offered", "taken", "retried", "skipped", "dropped", "pairs", "unlike", "classified", "numeric", "texts")
    text = page(
        capsys, mode="shadow", percent=33.333, outcome="condemned", reason="it is\x1b[31m worse " * 20, by_rule=True,
        active=ComparedSide(**side), candidate=ComparedSide(**side), agreed=5 * 10**8, same_texts=1,
        distance_max=1.7976931348623157e308, relative_max=1.0, relative_mean=0.123456789,
        **dict.fromkeys(many, 10**9),
    )  # fmt: skip
    for word in ("is shown 33.333 %", "(50.0 %)", "1.8e+308", "other outputs or shapes", "1 of 1,000,000,000 texts"):
        assert word in text
    assert "\x1b" not in text


@pytest.fixture
def compared(daemon) -> None:
    beside = RunningComparison(candidate="1.13.0-rc.1", mode="canary", percent=2.5)
    daemon.world.add(
        "press-fault-detector", "1.12.0", active=True, pid=1234567, memory_bytes=345 << 20, uptime_ms=7_384_000,
        counters=EngineCounters(success_count=123_456), comparison=beside,
    )  # fmt: skip
    daemon.world.add("press-fault-detector", "1.13.0-rc.1", pid=1234568, memory_bytes=345 << 20, uptime_ms=4_000)
    daemon.world.add("quiet", "1.0.0", active=True)


@pytest.mark.usefixtures("compared")
def test_status_marks_the_model_and_names_its_candidate(ask) -> None:
    done = ask("status")
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 80
    table, sentence = (" ".join(part.split()) for part in done.out.rsplit("press-fault-detector 1.12.0 is", 1))
    assert "1.12.0*" in table
    assert "+1.13.0-rc.1" in table
    assert table.count("+") == 1
    assert sentence.startswith(
        "compared with 1.13.0-rc.1 (canary, 2.5 % of its calls): appliance models compare press-fault-detector"
    )


@pytest.mark.usefixtures("compared")
def test_status_as_json_says_what_is_compared(ask) -> None:
    found = {(m["name"], m["version"]): m["comparison"] for m in ask("status", "--json").json["models"]}
    assert found == {
        ("press-fault-detector", "1.12.0"): {"candidate": "1.13.0-rc.1", "mode": "canary", "percent": 2.5},
        ("press-fault-detector", "1.13.0-rc.1"): None,
        ("quiet", "1.0.0"): None,
    }
