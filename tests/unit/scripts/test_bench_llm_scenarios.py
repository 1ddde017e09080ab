"""The scenarios of bench_llm from end to end, against servers and programs that only pretend."""

import json

import pytest
from bench import llm, llm_crowd, llm_intrusion
from bench.llm_crowd import engine_memory
from bench.target import BenchError


def _options(programs, program):
    return [f"--{program}", str(programs[program]), "--gguf", str(programs["gguf"])]


def _document(capsys):
    return json.loads(capsys.readouterr().out)["cases"]


# --- the scenarios --------------------------------------------------------------------------------------------------


def test_decode_compares_with_batched_bench(talking, programs, capsys):
    options = ["--clients", "1", "3", "--max-tokens", "20", "--prompt-tokens", "30", "--rounds", "2", "--json"]
    peer = _options(programs, "llama-batched-bench")
    assert llm.main(["decode", talking.address, "--model", "m", *options, *peer]) == 0
    cases = _document(capsys)
    assert [case["case"] for case in cases] == ["decode, 1 at a time", "decode, 3 at a time"]
    for case, clients in zip(cases, (1, 3), strict=True):
        ours = case["median"]["appliance"]["figures"]
        assert case["median"]["llama-batched-bench"]["figures"]["tokens_per_s"] == 50
        assert case["ratio"]["tokens_per_s"] == pytest.approx(ours["tokens_per_s"] / 50)
        assert 0 < ours["counted_tokens"] <= 19 * clients
        assert ours["accepted_share"] == 0.5
    # After the first call: each prompt is computed by a call of one token, then answered.
    prompts = [request.prompt for request in talking.requests[1:]]
    lengths = [request.options.max_tokens for request in talking.requests[1:]]
    assert sorted(lengths) == [1] * 8 + [20] * 8
    assert all(prompts.count(prompt) == 2 for prompt in prompts)


def test_decode_fails_when_a_prompt_is_refused(talking, capsys):
    talking.refuse_at = 2
    assert llm.main(["decode", talking.address, "--model", "m", "--clients", "1", "--rounds", "1"]) == 1
    assert "RESOURCE_EXHAUSTED 1" in capsys.readouterr().out


@pytest.mark.parametrize("more", [[], ["--keep-peer"]])
def test_shared_measures_cold_and_steady_of_both(talking, programs, more, capsys):
    options = [
        "--clients",
        "2",
        "--max-tokens",
        "4",
        "--system-tokens",
        "50",
        "--calls",
        "2",
        "--rounds",
        "2",
        "--json",
    ]
    peer = _options(programs, "llama-server")
    assert llm.main(["shared", talking.address, "--model", "m", *options, *peer, *more]) == 0
    cases = _document(capsys)
    assert [case["case"] for case in cases] == ["2 clients, cold", "2 clients, steady"]
    for case in cases:
        assert case["ratio"]["tokens_per_s"] > 0
        assert [one["calls"] for one in case["rounds"]["appliance"]] == [4, 4]
        assert case["median"]["llama-server"]["figures"]["reused_tokens"] == 5
    chats = [request.messages for request in talking.requests[1:]]
    systems = [chat[0].content for chat in chats]
    # One system prompt for the 4 cold and 4 steady calls of a round, another in the next round.
    assert len(systems) == 16
    assert len(set(systems)) == len({system[:20] for system in systems}) == 2
    assert len({chat[1].content for chat in chats[:8]}) == 8


def test_shared_fails_when_a_call_does(talking, capsys):
    talking.refuse_at = 3
    options = ["--clients", "2", "--max-tokens", "4", "--system-tokens", "50", "--calls", "1", "--rounds", "1"]
    assert llm.main(["shared", talking.address, "--model", "m", *options]) == 1
    assert "RESOURCE_EXHAUSTED 1" in capsys.readouterr().out


def test_intrusion_measures_streams_before_and_during_the_prompt(talking, programs, capsys):
    options = ["--streams", "3", "--prompt-tokens", "60", "--quiet", "0.05", "--rounds", "2", "--json"]
    assert llm.main(["intrusion", talking.address, "--model", "m", *options]) == 0
    (case,) = _document(capsys)
    figures = case["median"]["appliance"]["figures"]
    assert figures["streams_left"] == 3
    assert figures["p99_growth"] > 0
    assert figures["intruder_ttft_ms"] > 0
    prompts = [request.prompt for request in talking.requests[1:]]
    assert len(prompts) == len(set(prompts)) == 8
    assert [50 <= len(prompt.split()) <= 60 for prompt in prompts].count(True) == 2


def test_intrusion_tells_when_the_streams_were_too_short(talking, capsys):
    options = ["--streams", "2", "--quiet", "0.2", "--max-tokens", "20", "--rounds", "1"]
    assert llm.main(["intrusion", talking.address, "--model", "m", *options]) == 0
    assert "raise --max-tokens" in capsys.readouterr().err


def test_intrusion_starts_a_peer_with_a_slot_for_the_intruder(talking, programs, monkeypatch, capsys):
    servers = []
    monkeypatch.setattr(llm_intrusion, "one_round", lambda args, address, names: pytest.fail("not reached"))

    def started(server):
        servers.append(server)
        raise BenchError("enough")

    monkeypatch.setattr(llm_intrusion, "running", started)
    monkeypatch.setattr(llm_intrusion.compare, "in_turns", lambda case, runs, rounds: runs["llama-server"]())
    peer = _options(programs, "llama-server")
    assert llm.main(["intrusion", talking.address, "--model", "m", "--prompt-tokens", "8000", *peer]) == 2
    assert (servers[0].slots, servers[0].slot_tokens >= 8000 + llm_intrusion.INTRUDER_TOKENS) == (9, True)


def test_crowd_measures_fairness_and_memory(talking, tmp_path, capsys):
    options = ["--clients", "8", "--calls", "2", "--max-tokens", "2", "--rounds", "2", "--json"]
    memory = ["--socket", str(tmp_path / "s.sock"), "--requests", "25", "--sample-every", "10"]
    assert llm.main(["crowd", talking.address, "--model", "m", *options, *memory]) == 0
    crowd, soak = _document(capsys)
    assert crowd["median"]["appliance"]["calls"] == 32
    assert crowd["median"]["appliance"]["figures"]["slowest_to_mean"] >= 1
    # The simulator grows by a megabyte each time it is asked.
    figures = soak["median"]["appliance"]["figures"]
    assert list(figures) == ["growth_mb", "mb_after_0", "mb_after_10", "mb_after_20", "mb_after_25"]
    assert (figures["growth_mb"], soak["median"]["appliance"]["calls"]) == (2, 25)
    prompts = [request.messages[0].content for request in talking.requests]
    assert len(set(prompts)) == len(prompts) == 1 + 32 + 25


def test_crowd_prints_a_table_for_each_part(talking, tmp_path, capsys):
    options = ["--clients", "2", "--calls", "1", "--max-tokens", "2", "--rounds", "1", "--requests", "4"]
    assert llm.main(["crowd", talking.address, "--model", "m", *options, "--socket", str(tmp_path / "s.sock")]) == 0
    printed = capsys.readouterr().out
    assert "slowest_to_mean" in printed
    assert "growth_mb" in printed


def test_a_request_that_fails_while_memory_is_watched_fails_the_run(talking, tmp_path, capsys):
    talking.refuse_at = 5
    options = ["--clients", "2", "--calls", "1", "--max-tokens", "2", "--rounds", "1", "--requests", "4"]
    assert llm.main(["crowd", talking.address, "--model", "m", *options, "--socket", str(tmp_path / "s.sock")]) == 1
    assert "RESOURCE_EXHAUSTED 1" in capsys.readouterr().out


@pytest.mark.parametrize(("version", "bytes_"), [("", 101_000_000), ("2", 101_000_000), ("1", 7)])
def test_memory_is_that_of_the_version_that_is_asked(talking, tmp_path, version, bytes_):
    assert engine_memory(tmp_path / "s.sock", "m", version) == bytes_


@pytest.mark.parametrize("model", ["unloaded", "unknown"])
def test_a_model_without_memory_is_told(talking, tmp_path, model):
    with pytest.raises(BenchError, match=f"no memory of '{model}'"):
        engine_memory(tmp_path / "s.sock", model, "")


def test_a_socket_without_a_daemon_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(llm_crowd, "STATUS_TIMEOUT_S", 5.0)
    with pytest.raises(BenchError, match=r"Admin\.Status failed: UNAVAILABLE"):
        engine_memory(tmp_path / "none.sock", "m", "")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["decode", "--clients", "1", "0"], "bench_llm decode: --clients must be above 0, got 0"),
        (["decode", "--max-tokens", "0"], "--max-tokens must be above 0"),
        (["decode", "--llama-batched-bench", "/no/such"], "/no/such: no such program"),
        (["shared", "--llama-server", "PROGRAM"], "--gguf: the peer needs it"),
        (["shared", "--llama-server", "PROGRAM", "--gguf", "/no/such.gguf"], "--gguf: no such file: /no/such.gguf"),
        (["shared", "--llama-server", "PROGRAM", "--gguf", "PROGRAM", "--threads", "0"], "--threads must be above 0"),
        (["shared", "--llama-server", "PROGRAM", "--gguf", "PROGRAM", "--label", "llama-server"], "is the peer's name"),
        (["shared", "--system-tokens", "-1"], "--system-tokens must be above 0"),
        (["intrusion", "--quiet", "0"], "--quiet must be above 0"),
        (["intrusion", "--max-tokens", "-1"], "--max-tokens must not be below 0"),
        (["crowd", "--requests", "0"], "--requests must be above 0"),
        (["crowd", "--rounds", "0"], "--rounds must be above 0"),
        (["crowd", "--client-cpus", "x"], "--client-cpus 'x'"),
    ],
)
def test_options_of_scenarios_that_make_no_sense_are_told(talking, programs, options, complaint, capsys):
    name, *rest = [str(programs["llama-server"]) if option == "PROGRAM" else option for option in options]
    assert llm.main([name, talking.address, "--model", "m", *rest]) == 2
    assert complaint in capsys.readouterr().err
    assert not talking.requests


@pytest.mark.parametrize("scenario", sorted(llm.SCENARIOS))
def test_a_server_that_is_not_there_is_told(scenario, capsys):
    assert llm.main([scenario, "127.0.0.1:1", "--model", "m"]) == 2
    assert "nothing listens on 127.0.0.1:1" in capsys.readouterr().err


def test_the_peer_may_come_from_the_environment(talking, programs, monkeypatch, capsys):
    monkeypatch.setenv("LLAMA_SERVER", str(programs["llama-server"]))
    assert llm.main(["shared", talking.address, "--model", "m"]) == 2
    assert "--gguf: the peer needs it" in capsys.readouterr().err


@pytest.mark.parametrize("scenario", sorted(llm.SCENARIOS))
def test_help_has_examples(scenario, capsys):
    with pytest.raises(SystemExit) as ended:
        llm.main([scenario, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert f"scripts/bench_llm {scenario} 127.0.0.1:8001" in told
    assert ("building the peers" in told) == (scenario != "crowd")
