"""Clients that begin together, against servers that only pretend; and the prompts that they ask."""

import pytest
from bench.llama_peers import Gguf, Server, running
from bench.llm_clients import Ask, connect
from bench.llm_crowd import shares
from bench.llm_load import ask_once
from bench.llm_scenario import unique_text
from bench.llm_shared import questions
from bench.llm_wave import Streams, run_wave
from bench.target import BenchError

# --- waves and streams ----------------------------------------------------------------------------------------------


def test_a_wave_asks_each_clients_prompts_in_order(talking):
    prompts = [[f"{client}-{call}" for call in range(3)] for client in range(4)]
    calls = run_wave(talking.address, Ask("m", max_tokens=2, raw=True, ignore_eos=True), prompts)
    assert [[call.error for call in one] for one in calls] == [[""] * 3] * 4
    assert all(call.end_ns >= call.arrivals_ns[-1] > call.start_ns for one in calls for call in one)
    assert (calls[0][0].tokens, calls[0][0].reused_tokens, calls[0][0].accepted_tokens) == (2, 3, 1)
    asked = [request.prompt for request in talking.requests]
    for client, wanted in enumerate(prompts):
        assert [prompt for prompt in asked if prompt.startswith(f"{client}-")] == wanted
    assert all(request.options.ignore_eos for request in talking.requests)


def test_a_system_prompt_comes_before_the_question(talking):
    run_wave(talking.address, Ask("m", max_tokens=1, system="Be short."), [["Why?"]])
    said = [(message.role, message.content) for message in talking.requests[0].messages]
    assert said == [("system", "Be short."), ("user", "Why?")]


def test_a_bad_address_fails_before_any_thread_waits():
    with pytest.raises(ValueError, match="expected http://host:port"):
        run_wave("https://127.0.0.1:1", Ask("m"), [["a"], ["b"]])


def test_streams_run_until_the_block_is_left_and_are_then_cancelled(talking):
    with Streams(talking.address, Ask("m", max_tokens=0, raw=True), ["a", "b"]) as streams:
        streams.wait_until_all_speak(3, 10)
        assert all(len(call.arrivals_ns) >= 3 and not call.end_ns for call in streams.calls)
    assert [call.error for call in streams.calls] == ["", ""]
    assert all(call.end_ns for call in streams.calls)
    for _ in streams.calls:
        assert talking.cancelled.acquire(timeout=10)


@pytest.mark.parametrize(
    ("max_tokens", "refuse_at", "complaint"),
    [(2, 0, "it ended after 2 tokens"), (0, 1, "did not begin: RESOURCE_EXHAUSTED")],
)
def test_a_stream_that_ends_too_early_is_told(talking, max_tokens, refuse_at, complaint):
    talking.refuse_at = refuse_at
    with (
        Streams(talking.address, Ask("m", max_tokens=max_tokens, raw=True), ["a"]) as streams,
        pytest.raises(BenchError, match=complaint),
    ):
        streams.wait_until_all_speak(5, 10)


def test_streams_that_are_slow_to_begin_are_told(talking):
    with (
        Streams(talking.address, Ask("m", max_tokens=0, raw=True), ["a"]) as streams,
        pytest.raises(BenchError, match="not all streams gave 1000000 tokens within 0 s"),
    ):
        streams.wait_until_all_speak(1_000_000, 0)


def test_leaving_a_stream_of_events_early_closes_its_connection(programs):
    with running(Server(programs["llama-server"], Gguf(programs["gguf"], 1), 1, 64)) as url:
        client = connect(url)
        chunks = client.stream(Ask("m", max_tokens=50, raw=True), "a")
        assert next(chunks).text == "word "
        chunks.close()
        # The next call begins at its own beginning, not in the rest of the last one.
        assert ask_once(client, Ask("m", max_tokens=3, raw=True), "a").tokens == 3
        # That server closes after each answer: a kept connection that is gone is no failure.
        assert [ask_once(client, Ask("m", max_tokens=3), "a").error for _ in range(3)] == [""] * 3
        assert ask_once(client, Ask("m", max_tokens=3), "a").reused_tokens == 5
        client.close()


# --- prompts --------------------------------------------------------------------------------------------------------


def test_unique_texts_differ_from_their_beginning_and_have_about_their_length():
    texts = [unique_text(400, client, "3fa2b10") for client in range(16)]
    assert len({text[:2] for text in texts}) == 16
    assert all(390 <= len(text.split()) <= 400 for text in texts)


def test_no_question_comes_twice():
    asked = [question for first in (0, 3) for client in questions(16, 3, first) for question in client]
    assert len(set(asked)) == len(asked) == 96


@pytest.mark.parametrize(
    ("requests", "clients", "expected"),
    [(100, 64, [2] * 36 + [1] * 28), (3, 64, [1, 1, 1]), (64, 64, [1] * 64), (7, 1, [7])],
)
def test_requests_are_shared_out(requests, clients, expected):
    assert shares(requests, clients) == expected
