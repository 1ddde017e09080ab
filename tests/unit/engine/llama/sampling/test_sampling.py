"""Sampling options: defaults, ranges, and what they do to real logits."""

import math

import pytest
from llama_harness import make_engine, run

from appliance.calls import GenerateCall, Sampling
from appliance.engine.llama.sampling.options import SEED_MAX, SamplingPlan, plan_sampling
from appliance.errors import InvalidArgument
from appliance.model_spec import LlamaOptions, SamplingDefaults

RANDOM = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=11)
GREEDY = Sampling(temperature=0.0)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    engine = make_engine(tmp_path_factory.mktemp("m"), LlamaOptions(deterministic=True))
    yield engine
    engine.close()


def answer(engine, sampling, **options):
    options.setdefault("max_tokens", 24)
    return run(engine, GenerateCall(prompt="the hello", sampling=sampling, **options))


def varied(**fields):
    values = {name: getattr(RANDOM, name) for name in RANDOM.__struct_fields__}
    return Sampling(**{**values, **fields})


def test_defaults_are_the_daemons_then_the_owners_then_the_clients():
    assert plan_sampling(Sampling(seed=1), SamplingDefaults()) == SamplingPlan(seed=1)
    owner = SamplingDefaults(temperature=0.2, top_k=7, repeat_penalty=1.3)
    plan = plan_sampling(Sampling(seed=1, top_k=0), owner)
    assert (plan.temperature, plan.top_k, plan.repeat_penalty, plan.top_p) == (0.2, 0, 1.3, 0.95)


def test_a_seed_is_drawn_when_none_is_given():
    seeds = {plan_sampling(Sampling(), SamplingDefaults()).seed for _ in range(4)}
    assert len(seeds) > 1
    assert all(0 <= seed <= SEED_MAX for seed in seeds)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1), ("temperature", 5.1), ("temperature", math.nan), ("temperature", math.inf),
        ("top_k", -1), ("top_k", 2**31), ("top_p", 0.0), ("top_p", 1.01), ("top_p", math.nan),
        ("min_p", -0.01), ("min_p", 1.5), ("repeat_penalty", 0.0), ("repeat_penalty", 10.5), ("repeat_penalty", -1.0),
        ("presence_penalty", -2.1), ("presence_penalty", 2.1),
        ("frequency_penalty", -2.1), ("frequency_penalty", math.inf),
        ("repeat_last_n", -2), ("seed", -1), ("seed", 2**32),
    ],
)  # fmt: skip
def test_out_of_range_names_field_value_and_range(field, value):
    with pytest.raises(InvalidArgument, match=rf"{field} is .*allowed: ") as caught:
        plan_sampling(Sampling(**{field: value}), SamplingDefaults())
    assert caught.value.reason == "SAMPLING_OUT_OF_RANGE"


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=5.0, top_p=1.0, min_p=1.0, top_k=1),
        Sampling(seed=SEED_MAX, repeat_last_n=0),
        Sampling(seed=0),
    ],
)
def test_the_ends_of_the_ranges_work(engine, sampling):
    assert answer(engine, sampling, max_tokens=3).done.completion_tokens == 3


def test_the_owners_bad_default_is_refused_too():
    with pytest.raises(InvalidArgument, match="top_p"):
        plan_sampling(Sampling(), SamplingDefaults(top_p=3.0))


@pytest.mark.parametrize("seed", [0, 11, SEED_MAX])
def test_a_seed_gives_the_same_answer_again(engine, seed):
    first, second = (answer(engine, varied(seed=seed)) for _ in range(2))
    assert first.text == second.text
    assert first.done.seed == seed


def test_another_seed_gives_another_answer(engine):
    assert len({answer(engine, varied(seed=seed)).text for seed in range(4)}) > 1


def test_the_seed_that_was_drawn_reproduces_the_answer(engine):
    first = answer(engine, varied(seed=None))
    assert answer(engine, varied(seed=first.done.seed)).text == first.text


@pytest.mark.parametrize("same_as_greedy", [varied(top_k=1), varied(top_p=1e-6), varied(min_p=1.0)])
def test_the_tightest_filter_is_greedy(engine, same_as_greedy):
    assert answer(engine, same_as_greedy).text == answer(engine, GREEDY).text


@pytest.mark.parametrize("penalty", [{"repeat_penalty": 5.0}, {"presence_penalty": 2.0}, {"frequency_penalty": 2.0}])
def test_penalties_change_the_answer(engine, penalty):
    def tokens(sampling):
        reply = answer(engine, sampling, max_tokens=60, logprobs=1)
        return [choice.chosen.token for piece in reply.pieces for choice in piece.logprobs]

    plain, penalised = tokens(GREEDY), tokens(Sampling(temperature=0.0, repeat_last_n=-1, **penalty))
    assert len(set(plain)) < len(plain), "the tiny model must repeat itself for this test to mean something"
    assert len(set(penalised)) > len(set(plain))


@pytest.mark.parametrize(("last_n", "seen"), [(64, True), (-1, True), (10, True), (0, False)])
def test_penalties_see_the_prompt(engine, last_n, seen):
    # A negative penalty is a reward: what the prompt is full of comes next, if the sampler has seen the prompt.
    reward = Sampling(temperature=0.0, frequency_penalty=-2.0, repeat_last_n=last_n)
    plain = run(engine, GenerateCall(prompt="x" * 40, sampling=GREEDY, max_tokens=1))
    rewarded = run(engine, GenerateCall(prompt="x" * 40, sampling=reward, max_tokens=1))
    assert plain.text != "x"
    assert (rewarded.text == "x") is seen


@pytest.mark.parametrize("top", [1, 5, 20])
def test_logprobs_are_probabilities_before_filters(engine, top):
    reply = answer(engine, varied(top_k=3), logprobs=top, max_tokens=8)
    choices = [choice for piece in reply.pieces for choice in piece.logprobs]
    assert len(choices) == reply.done.completion_tokens == 8
    for choice in choices:
        values = [t.logprob for t in choice.top]
        assert len(values) == top
        assert values == sorted(values, reverse=True)
        assert sum(map(math.exp, values)) <= 1 + 1e-5
        assert choice.chosen.logprob <= values[0]


def test_logprobs_of_a_sharp_model_sum_to_one(tmp_path):
    engine = make_engine(tmp_path, script=b"abcdefg")
    reply = run(engine, GenerateCall(prompt="a", sampling=GREEDY, logprobs=20))
    for piece in reply.pieces:
        (choice,) = piece.logprobs
        assert choice.chosen == choice.top[0]
        assert sum(math.exp(t.logprob) for t in choice.top) == pytest.approx(1, abs=1e-3)
    engine.close()
