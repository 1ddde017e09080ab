from appliance.types import EngineStats
from appliance.worker.engine_stats import added, folded, together

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


def test_instances_add_up_gauges_too() -> None:
    one = EngineStats(success_count=2, running=1, waiting=2, kv_used=5, tokens_per_second=1.5, step_ns=7)
    other = EngineStats(success_count=3, running=4, kv_used=6, tokens_per_second=2.0, step_ns=9, sequences=3)
    both = together([one, other])
    assert (both.success_count, both.running, both.waiting, both.kv_used, both.sequences) == (5, 5, 2, 11, 3)
    assert (both.tokens_per_second, both.step_ns) == (3.5, 9)
    assert together([]) == EngineStats()
    assert together([one]) == one


def test_instances_add_up_their_batches() -> None:
    stats = [EngineStats(batch_sizes={1: 2, 4: 1}, last_inference_ms=5), EngineStats(batch_sizes={4: 3})]
    assert together(stats).batch_sizes == {1: 2, 4: 4}
    assert together(stats).last_inference_ms == 5


def test_runs_by_size_add_up() -> None:
    both = added(
        EngineStats(batch_sizes={1: 2, 8: 1}, batch_ns={1: 20, 8: 30}),
        EngineStats(batch_sizes={8: 3}, batch_ns={8: 90}),
    )
    assert both.batch_sizes == {1: 2, 8: 4}
    assert both.batch_ns == {1: 20, 8: 120}
    assert folded(EngineStats(), both).batch_ns == both.batch_ns
