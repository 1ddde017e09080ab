"""Many calls in one engine: together, in turn, set back and brought back; each gets what it would have got alone."""

import msgspec
import pytest
from llama_harness import make_engine, make_spec, run, run_until, submit
from tiny_gguf import write_tiny_gguf
from tiny_lora import write_tiny_lora

from appliance.answers import ChoiceDone, TextPiece
from appliance.calls import EmbedCall, GenerateCall, Sampling
from appliance.clock import FakeClock
from appliance.engine.base import LoadOptions
from appliance.engine.llama.load import load
from appliance.engine.llama.schedule.step_times import StepTimes
from appliance.errors import DeadlineExceeded, ResourceExhausted
from appliance.model_spec import LlamaOptions, ModelFile

GREEDY = Sampling(temperature=0.0)
SECOND = 10**9


def generate(prompt="a", **options):
    options.setdefault("sampling", GREEDY)
    return GenerateCall(prompt=prompt, **options)


def running(engine):
    return engine._generation.roster.running


def line(engine):
    return engine._generation.roster.line


@pytest.fixture
def looping(tmp_path):
    """Every answer goes round and round: b c d a b c d a ..."""
    engine = make_engine(tmp_path, script=b"abcd", loop=True, context=512, clock=FakeClock(SECOND))
    yield engine
    engine.close()


def expected(prompt, tokens):
    start = b"abcd".index(prompt.encode()[-1:]) + 1
    return "".join("abcd"[(start + i) % 4] for i in range(tokens))


def test_calls_are_computed_together_and_end_one_by_one(looping):
    prompts = ["a", "ab", "abc", "bcd", "d"]
    replies = [submit(looping, generate(p, max_tokens=4 + i)) for i, p in enumerate(prompts)]
    steps = run_until(looping, lambda: not looping.has_work())
    assert [r.text for r in replies] == [expected(p, 4 + i) for i, p in enumerate(prompts)]
    assert steps <= 10  # not 30: the longest answer's steps, and those of the prompts


def test_a_call_that_comes_late_joins_those_that_run(looping):
    # Long enough whatever a step brings: where guesses pay, as the machine's step times say, it is many tokens.
    first = submit(looping, generate(max_tokens=200))
    run_until(looping, lambda: len(first.pieces) >= 5)
    late = submit(looping, generate("bc", max_tokens=2))
    looping.step()
    assert len(running(looping)) == 2
    run_until(looping, lambda: late.over)
    assert not first.over
    run_until(looping, lambda: not looping.has_work())
    assert (first.text, late.text) == (expected("a", 200), expected("bc", 2))


class CheapSteps(StepTimes):
    """A machine on which more tokens cost next to nothing: every guess pays."""

    def __init__(self):
        super().__init__(first=1e7, each=1e3)

    def add(self, tokens, ns):
        pass


class SlowSteps(StepTimes):
    """A machine on which prompts are computed in small pieces beside running answers."""

    def add(self, tokens, ns):
        pass


def test_a_long_prompt_does_not_stop_a_running_answer(looping):
    stream = submit(looping, generate(max_tokens=200))
    run_until(looping, lambda: len(stream.pieces) == 1)
    looping._generation._generator.times = SlowSteps()
    long = submit(looping, generate("abcd" * 70, max_tokens=1))
    steps = 0
    while not long.over:
        before = len(stream.pieces)
        looping.step()
        steps += 1
        assert len(stream.pieces) > before  # every step gave the stream a token
    assert steps > 4
    assert long.text == expected("d", 1)


def test_more_calls_than_the_cache_has_room_for_are_all_answered(tmp_path):
    """The cache has room for three of them at their end: others wait, and some are set back and brought back."""
    engine = make_engine(tmp_path, script=b"abcd", loop=True, context=128)
    replies = [submit(engine, generate("abcd"[: 1 + i % 4] * (1 + i % 3), max_tokens=60 + i)) for i in range(12)]
    run_until(engine, lambda: not engine.has_work())
    for i, reply in enumerate(replies):
        assert reply.done.completion_tokens == 60 + i
        assert reply.text == expected("abcd"[: 1 + i % 4], 60 + i)
    stats = engine.stats()
    assert stats.preempted_count > 0
    assert stats.kv_used <= stats.kv_tokens == 128
    assert stats.success_count == 12
    engine.close()


def test_an_answer_that_was_set_back_goes_on_with_its_own_random_state(tmp_path):
    """The scripted model's logits depend on the last token alone; the bias makes them flat, so that chance decides."""
    flat = tuple((token, -60.0) for token in b"abcd")
    calls = [
        generate("a", max_tokens=60, logit_bias=flat, sampling=Sampling(2.0, 0, 1.0, 0.0, repeat_penalty=1.2, seed=i))
        for i in range(6)
    ]
    texts = []
    for cells in (128, 1024):
        folder = tmp_path / str(cells)
        folder.mkdir()
        engine = make_engine(folder, LlamaOptions(kv_cache_tokens=cells), script=b"abcd", loop=True)
        replies = [submit(engine, call) for call in calls]
        run_until(engine, lambda engine=engine: not engine.has_work())
        texts.append([reply.text for reply in replies])
        assert (engine.stats().preempted_count > 0) == (cells == 128)
        engine.close()
    assert texts[0] == texts[1]
    assert len(set(texts[0])) == len(calls)


def test_who_came_last_of_the_lowest_class_is_set_back(tmp_path):
    engine = make_engine(tmp_path, script=b"abcd", loop=True, context=128, clock=FakeClock(SECOND))
    important = submit(engine, generate("a", max_tokens=100, priority=1))
    other = submit(engine, generate("b", max_tokens=100, priority=9))
    run_until(engine, lambda: engine.stats().preempted_count > 0)
    assert [s.reply for s in running(engine)] == [important]
    run_until(engine, lambda: not engine.has_work())
    assert important.text == expected("a", 100)
    assert other.text == expected("b", 100)
    engine.close()


def test_priorities_decide_who_starts(tmp_path):
    engine = make_engine(tmp_path, LlamaOptions(deterministic=True), script=b"abcd", loop=True)
    first = submit(engine, generate(max_tokens=3))
    engine.step()
    replies = {p: submit(engine, generate(max_tokens=3, priority=p)) for p in (9, 0, 1)}
    order = []
    while engine.has_work():
        engine.step()
        order += [p for p, reply in replies.items() if reply.over and p not in order]
    assert order == [1, 0, 9]
    assert first.over
    engine.close()


def test_clients_take_turns(tmp_path):
    engine = make_engine(tmp_path, LlamaOptions(deterministic=True), script=b"abcd", loop=True)
    many = [submit(engine, generate(max_tokens=3, client="many")) for _ in range(6)]
    engine.step()
    one = submit(engine, generate(max_tokens=3, client="one"))
    run_until(engine, lambda: one.over)
    assert sum(reply.over for reply in many) <= 2
    run_until(engine, lambda: not engine.has_work())
    engine.close()


# --- queue and deadlines ----------------------------------------------------------------------------------------------


def test_a_full_queue_tells_the_expected_wait(tmp_path):
    clock = FakeClock(SECOND)
    engine = make_engine(
        tmp_path, LlamaOptions(deterministic=True), script=b"abcd", loop=True, queue_max=2, clock=clock
    )
    reply = submit(engine, generate(max_tokens=1))
    engine._generation.roster.admit()
    clock.advance(20)
    run_until(engine, lambda: reply.over)
    submit(engine, generate())
    engine.step()
    for _ in range(2):
        submit(engine, generate())
    with pytest.raises(ResourceExhausted, match="at most 2 may: try again in about 60 s"):
        submit(engine, generate())
    engine.close()


def test_a_deadline_that_cannot_be_met_is_refused_early(tmp_path):
    clock = FakeClock(SECOND)
    engine = make_engine(tmp_path, LlamaOptions(deterministic=True), script=b"abcd", loop=True, clock=clock)
    reply = submit(engine, generate(max_tokens=1))
    engine._generation.roster.admit()
    clock.advance(10)
    run_until(engine, lambda: reply.over)
    submit(engine, generate())
    engine.step()
    submit(engine, generate())
    now = clock.monotonic_ns()
    with pytest.raises(DeadlineExceeded, match=r"would start in about 20 s, its deadline is in 5\.0 s") as caught:
        submit(engine, generate(deadline_ns=now + 5 * SECOND))
    assert caught.value.reason == "DEADLINE_UNREACHABLE"
    assert submit(engine, generate(deadline_ns=now + 25 * SECOND)) is not None
    # One that goes before all others is not refused.
    assert submit(engine, generate(deadline_ns=now + 5 * SECOND, priority=1)) is not None
    engine.close()


def test_n_answers_are_one_call_in_the_queue(tmp_path):
    engine = make_engine(tmp_path, LlamaOptions(deterministic=True), script=b"abcd", loop=True, queue_max=2)
    submit(engine, generate())
    engine.step()
    submit(engine, generate(n=16))
    assert (engine.stats().waiting, engine.stats().running) == (1, 1)
    submit(engine, generate())
    with pytest.raises(ResourceExhausted, match="2 calls wait"):
        submit(engine, generate())
    engine.close()


def test_a_long_line_of_answers_is_no_reason_to_refuse_a_vector(tmp_path):
    clock = FakeClock(SECOND)
    engine = make_engine(
        tmp_path, LlamaOptions(deterministic=True, pooling="mean"), script=b"abcd", loop=True, clock=clock
    )
    reply = submit(engine, generate(max_tokens=1))
    engine._generation.roster.admit()
    clock.advance(100)
    run_until(engine, lambda: reply.over)
    for _ in range(5):
        submit(engine, generate(max_tokens=3))
    vector = submit(engine, EmbedCall(texts=("ab",), deadline_ns=clock.monotonic_ns() + SECOND))
    run_until(engine, lambda: vector.over)
    assert vector.error is None
    engine.close()


def test_a_burst_that_need_not_wait_is_not_refused(tmp_path):
    """Calls that came together are in the line only until the next step; no queue is full, no deadline out of reach."""
    clock = FakeClock(SECOND)
    engine = make_engine(tmp_path, script=b"abcd", loop=True, context=1024, queue_max=4, clock=clock)
    slow = submit(engine, generate(max_tokens=1))
    engine._generation.roster.admit()
    clock.advance(60)
    run_until(engine, lambda: slow.over)
    deadline = clock.monotonic_ns() + 5 * SECOND
    replies = [submit(engine, generate("abcd"[: 1 + i % 4], max_tokens=3, deadline_ns=deadline)) for i in range(40)]
    run_until(engine, lambda: not engine.has_work())
    assert all(reply.done.completion_tokens == 3 for reply in replies)
    engine.close()


def test_no_more_answers_at_a_time_than_a_batch_has_tokens(tmp_path):
    engine = make_engine(tmp_path, LlamaOptions(batch_tokens=12), script=b"abcd", loop=True, context=1024)
    replies = [submit(engine, generate(max_tokens=20)) for _ in range(10)]
    run_until(engine, lambda: len(running(engine)) == 4)
    counts = [len(s.tokens) for s in running(engine)]
    engine.step()
    assert all(after > before for after, before in zip([len(s.tokens) for s in running(engine)], counts, strict=True))
    run_until(engine, lambda: not engine.has_work())
    assert all(reply.done.completion_tokens == 20 for reply in replies)
    engine.close()


# --- adapters, shared beginnings, guesses -----------------------------------------------------------------------------


def test_adapters_take_turns_and_share_no_prefix(tmp_path):
    write_tiny_gguf(tmp_path / "model.gguf", script=b"abcdef", context=256)
    write_tiny_lora(tmp_path / "back.gguf", tmp_path / "model.gguf", b"fedcba")
    write_tiny_lora(tmp_path / "short.gguf", tmp_path / "model.gguf", b"axyz")
    spec = make_spec(LlamaOptions(adapters={"back": "back.gguf", "short": "short.gguf"}))
    files = (*spec.files, *(ModelFile(path=f"{name}.gguf", role="adapter") for name in ("back", "short")))
    engine = load(msgspec.structs.replace(spec, files=files), tmp_path, LoadOptions(threads=1))
    prompts = {"": "a", "back": "f", "short": "a"}
    long = "0123456789" * 4
    for _ in range(2):  # the second time each finds its own prefix, and no other's
        replies = {name: submit(engine, generate(long + start, adapter=name)) for name, start in prompts.items()}
        run_until(engine, lambda: not engine.has_work())
        assert {name: reply.text for name, reply in replies.items()} == {"": "bcdef", "back": "edcba", "short": "xyz"}
        reused = {reply.done.reused_tokens for reply in replies.values()}
        assert reused in ({0}, {len(long)})
    engine.close()


def test_a_system_prompt_of_several_clients_is_computed_once(tmp_path):
    engine = make_engine(tmp_path, context=1024)
    system = "the shared beginning of all these prompts " * 8
    prompts = [f"{system}{number} asks" for number in range(4)]
    replies = [submit(engine, generate(p, max_tokens=5, client=p[-6:], ignore_eos=True)) for p in prompts]
    run_until(engine, lambda: not engine.has_work())
    shared = engine.stats().prefix_tokens_saved // 3
    assert sorted(r.done.reused_tokens for r in replies) == [0, shared, shared, shared]
    assert shared > replies[0].done.prompt_tokens * 0.9
    engine.close()


@pytest.mark.parametrize("seed", [5, 6, 8])
def test_guesses_change_no_token_of_a_greedy_answer(tmp_path, seed):
    """One sequence, random weights that fall into a loop: the plain path and look-up give the same tokens."""
    texts = []
    for speculation in ("off", "lookup"):
        folder = tmp_path / speculation
        folder.mkdir()
        engine = make_engine(folder, LlamaOptions(speculation=speculation), context=1024, seed=seed)
        engine._generation._generator.times = CheapSteps()
        reply = run(engine, generate("the hello the hello the hello the ", max_tokens=300, ignore_eos=True))
        texts.append(reply.text)
        assert (reply.done.accepted_tokens > 0) == (speculation == "lookup")
        engine.close()
    assert texts[0] == texts[1]


def test_steps_are_timed_and_budgets_follow(looping):
    times = looping._generation._generator.times
    before = times.predict_ns(1)
    run(looping, generate(max_tokens=50))
    assert times.predict_ns(1) != before
    looping.warm_up()
    assert times._anchors[0][0] == 1


# --- several answers to one call --------------------------------------------------------------------------------------


def test_n_answers_share_their_prompt_and_have_seeds_of_their_own(tmp_path):
    engine = make_engine(tmp_path, context=512)
    sampling = Sampling(temperature=1.0, seed=2**32 - 2)
    reply = run(engine, generate("the hello " * 10, n=4, max_tokens=12, sampling=sampling))
    ends = [a.done for a in reply.sent if isinstance(a, ChoiceDone)] + [reply.done]
    assert sorted(done.index for done in ends) == [0, 1, 2, 3]
    assert sorted(done.seed for done in ends) == [0, 1, 2**32 - 2, 2**32 - 1]
    texts = {i: "".join(p.text for p in reply.pieces if isinstance(p, TextPiece) and p.index == i) for i in range(4)}
    assert len(set(texts.values())) > 1
    prompt = reply.done.prompt_tokens
    stats = engine.stats()
    assert stats.prefix_tokens_saved == 3 * (prompt - 1)
    assert (stats.success_count, stats.tokens_in) == (1, prompt)
    for i in range(4):
        alone = run(
            engine, generate("the hello " * 10, max_tokens=12, sampling=Sampling(1.0, seed=(2**32 - 2 + i) % 2**32))
        )
        assert alone.text == texts[i]
    engine.close()


def test_one_answer_that_fails_takes_the_call_with_it(looping, monkeypatch):
    reply = submit(looping, generate(n=3, max_tokens=50))
    run_until(looping, lambda: len(running(looping)) == 3)
    monkeypatch.setattr(running(looping)[1].chooser, "choose", lambda *_: (_ for _ in ()).throw(ResourceExhausted("x")))
    looping.step()
    assert isinstance(reply.error, ResourceExhausted)
    looping.step()
    assert not looping.has_work()
    assert (looping.stats().fail_count, looping.stats().cancel_count) == (1, 0)


def test_cancelling_takes_all_answers_and_counts_once(looping):
    reply = submit(looping, generate(n=5))
    looping.step()
    reply.cancelled = True
    looping.step()
    assert not looping.has_work()
    assert looping.stats().cancel_count == 1


# --- slow readers -----------------------------------------------------------------------------------------------------


def test_a_stream_whose_reader_is_slow_waits_and_the_others_never_notice(looping):
    slow, other = submit(looping, generate(max_tokens=30)), submit(looping, generate("b", max_tokens=10))
    run_until(looping, lambda: len(slow.pieces) == 3)
    slow.backlogged = True
    run_until(looping, lambda: other.over)
    assert len(slow.pieces) == 3
    assert other.text == expected("b", 10)
    assert not looping.has_work()  # nothing to do but to wait: the loop sleeps
    slow.backlogged = False
    run_until(looping, lambda: not looping.has_work())
    assert slow.text == expected("a", 30)


def test_a_reader_that_is_too_slow_is_let_go(looping):
    slow = submit(looping, generate(max_tokens=30))
    run_until(looping, lambda: len(slow.pieces) == 3)
    slow.backlogged = True
    looping.step()
    assert not looping.has_work()
    looping._clock.advance(31)
    assert looping.has_work()
    looping.step()
    assert isinstance(slow.error, ResourceExhausted)
    assert slow.error.reason == "SLOW_READER"
    assert not looping.has_work()


def test_a_slow_reader_gives_its_room_to_those_who_wait(tmp_path):
    engine = make_engine(tmp_path, script=b"abcd", loop=True, context=128, clock=FakeClock(SECOND))
    slow = submit(engine, generate("abcd" * 20, max_tokens=40))
    run_until(engine, lambda: len(slow.pieces) >= 3)
    slow.backlogged = True
    engine.step()
    other = submit(engine, generate("bcda" * 20, max_tokens=5))
    run_until(engine, lambda: other.over)
    assert other.text == expected("a", 5)
    assert not engine.has_work()
    slow.backlogged = False
    run_until(engine, lambda: not engine.has_work())
    assert slow.text == expected("d", 40)
    engine.close()


def test_a_slow_reader_gives_up_the_only_seat(tmp_path):
    clock = FakeClock(SECOND)
    engine = make_engine(tmp_path, LlamaOptions(deterministic=True), script=b"abcd", loop=True, clock=clock)
    slow = submit(engine, generate(max_tokens=30))
    run_until(engine, lambda: len(slow.pieces) == 3)
    slow.backlogged = True
    other = submit(engine, generate("b", max_tokens=5))
    run_until(engine, lambda: other.over)
    assert other.text == expected("b", 5)
    assert not engine.has_work()
    slow.backlogged = False
    run_until(engine, lambda: not engine.has_work())
    assert slow.text == expected("a", 30)
    engine.close()


# --- determinism ------------------------------------------------------------------------------------------------------


def choices(reply):
    return [(c.chosen.token, c.chosen.logprob, c.top) for piece in reply.pieces for c in piece.logprobs]


def test_a_deterministic_model_gives_the_same_bits_whatever_else_it_did(tmp_path):
    engine = make_engine(tmp_path, LlamaOptions(deterministic=True), context=512)
    call = generate("the hello " * 20, max_tokens=20, logprobs=5, sampling=Sampling(temperature=1.0, seed=7))
    first = run(engine, call)
    for i in range(3):
        submit(engine, generate("the hell" * i + "x", max_tokens=15))
        again = submit(engine, call)
        submit(engine, generate("another " * (i + 5), max_tokens=9))
        run_until(engine, lambda: not engine.has_work())
        assert choices(again) == choices(first)
        assert again.done.reused_tokens == 0
    engine.close()


def test_memory_of_the_cache_is_given_back_over_many_calls(looping):
    """A thousand calls: no sequence id, hold or cell is lost on the way."""
    for i in range(1000):
        reply = submit(looping, generate("abcd"[i % 4] * (1 + i % 50), max_tokens=1 + i % 7))
        if i % 10 == 3:
            looping.step()
            reply.cancelled = True
        if i % 5 == 0:
            run_until(looping, lambda: not looping.has_work())
    run_until(looping, lambda: not looping.has_work())
    cache = looping._generation.roster.cache
    assert cache.used == cache.kept == cache.tree.tokens
    assert cache.make_room(cache.tokens)
    assert cache.used == 0
    assert cache._ids.free == cache._ids.count


def test_max_context_of_the_model_is_the_clients_bound(tmp_path):
    write_tiny_gguf(tmp_path / "model.gguf", script=b"abcd", loop=True, context=128)
    engine = load(make_spec(max_context=32), tmp_path, LoadOptions(threads=1))
    assert engine.signature().context_tokens_max == 32
    assert run(engine, generate("a" * 30)).done.completion_tokens == 3
    with pytest.raises(Exception, match="prompt of 33 tokens, context of 32"):
        submit(engine, generate("a" * 33))
    engine.close()
