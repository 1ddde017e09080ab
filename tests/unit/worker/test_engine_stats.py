from appliance.types import EngineStats
from appliance.worker.engine_stats import added, folded

FIRST = EngineStats(
    success_count=2, last_inference_ms=9, running=1, kv_tokens=100, kv_used=50, prefix_hits=3, step_ns=7
)
SECOND = EngineStats(
    success_count=1, last_inference_ms=8, waiting=4, kv_tokens=100, kv_used=20, prefix_hits=1, tokens_per_second=5.5
)


def test_counters_add_up_and_gauges_are_those_of_the_process_that_runs() -> None:
    both = added(FIRST, SECOND)
    assert (both.success_count, both.prefix_hits, both.last_inference_ms) == (3, 4, 9)
    assert (both.running, both.waiting, both.kv_tokens, both.kv_used) == (0, 4, 100, 20)
    assert (both.step_ns, both.tokens_per_second) == (0, 5.5)


def test_an_ended_process_leaves_only_its_counters() -> None:
    ended = folded(EngineStats(), FIRST)
    assert ended == EngineStats(success_count=2, last_inference_ms=9, prefix_hits=3)
