"""What an engine counted, in ModelStatistics and in the operator's counters."""

from appliance.control import Route
from appliance.questions import VersionStatus
from appliance.serve.admin_convert import model_status
from appliance.serve.model_info import statistics
from appliance.types import EngineStats, ModelKind, ModelSignature, ModelState

STATS = EngineStats(
    success_count=6,
    success_ns=160,
    fail_count=1,
    fail_ns=9,
    queue_ns=60,
    compute_ns=100,
    compute_input_ns=7,
    compute_output_ns=13,
    inference_count=8,
    execution_count=3,
    last_inference_ms=5,
    batch_sizes={6: 1, 1: 2},
    batch_ns={6: 50, 1: 30},
)


def test_model_statistics_split_the_time_and_tell_the_batches() -> None:
    told = statistics(Route("m", "1.0.0", ModelState.READY, True), STATS)
    times = told.inference_stats
    assert (told.inference_count, told.execution_count, told.last_inference) == (8, 3, 5)
    assert [(d.count, d.ns) for d in (times.success, times.fail, times.queue)] == [(6, 160), (1, 9), (6, 60)]
    assert [(d.count, d.ns) for d in (times.compute_input, times.compute_infer, times.compute_output)] == [
        (6, 7),
        (6, 80),
        (6, 13),
    ]
    assert [(b.batch_size, b.compute_infer.count, b.compute_infer.ns) for b in told.batch_stats] == [
        (1, 2, 30),
        (6, 1, 50),
    ]


def test_a_language_model_has_no_batches_to_tell() -> None:
    told = statistics(Route("m", "1.0.0", ModelState.READY, True), EngineStats(success_count=1, compute_ns=5))
    assert not told.batch_stats
    assert told.inference_stats.compute_infer.ns == 5


def test_operators_see_the_same() -> None:
    signature = ModelSignature(ModelKind.TENSOR, "onnxruntime_onnx", (), (), batch_rows_max=64)
    status = VersionStatus("m", "1.0.0", "onnx", ModelState.READY, True, stats=STATS, signature=signature)
    told = model_status(status)
    assert told.batch_rows_max == 64
    assert (told.counters.compute_input_ns, told.counters.compute_output_ns) == (7, 13)
    assert dict(told.counters.batch_sizes) == {1: 2, 6: 1}
