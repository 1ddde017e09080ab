"""A language model beside models of the latency class: shorter prefill steps, while they want the processor."""

import pytest
from llama_harness import context_of, make_spec, run_until, submit
from tiny_gguf import write_tiny_gguf

from appliance import limits
from appliance.calls import GenerateCall, Sampling
from appliance.engine.base import LoadOptions
from appliance.engine.llama.load import load
from appliance.engine.llama.schedule.plan import prefill_most


def test_the_bound_of_a_step_by_who_wants_the_processor():
    assert prefill_most(latency_wanted=False) == limits.prefill_step_tokens_max
    assert prefill_most(latency_wanted=True) == limits.prefill_step_tokens_yielding < limits.prefill_step_tokens_max


@pytest.mark.parametrize(("wanted", "longest"), [(False, 128), (True, 32)])
def test_steps_of_a_long_prompt(tmp_path, wanted, longest):
    write_tiny_gguf(tmp_path / "model.gguf", context=512)
    options = LoadOptions(threads=1, latency_wanted=lambda: wanted)
    engine = load(make_spec(), tmp_path, options)
    sizes = []
    decode = context_of(engine).decode

    def counted(watch=None):
        sizes.append(context_of(engine).batch.count)
        return decode(watch)

    context_of(engine).decode = counted
    reply = submit(engine, GenerateCall(prompt="a" * 300, max_tokens=2, sampling=Sampling(temperature=0.0)))
    run_until(engine, lambda: not engine.has_work())
    assert reply.done.completion_tokens == 2
    assert max(sizes) == longest
    engine.close()


def test_what_is_computed_on_a_device_needs_no_turn_on_the_cores(tmp_path):
    write_tiny_gguf(tmp_path / "model.gguf")
    engine = load(make_spec(), tmp_path, LoadOptions(threads=1))
    assert engine.shares_cores()
    engine._model.on_device = True
    assert not engine.shares_cores()
    engine.close()
