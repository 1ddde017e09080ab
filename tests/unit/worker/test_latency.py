import pytest

from appliance.worker.latency import bucket_of, end_us, nth_us, percentile_ms


def test_buckets_follow_each_other_without_a_gap() -> None:
    assert [bucket_of(us) for us in range(18)] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12]
    for bucket in range(200):
        assert (bucket_of(end_us(bucket) - 1), bucket_of(end_us(bucket))) == (bucket, bucket + 1)


@pytest.mark.parametrize("us", [9, 100, 1_234, 999_999, 3_600_000_000])
def test_a_duration_is_known_to_a_quarter(us: int) -> None:
    assert us < end_us(bucket_of(us)) <= us * 1.25 + 1


def test_a_negative_duration_is_none() -> None:
    assert bucket_of(-5) == 0


def test_a_bucket_from_a_spoilt_file_asks_for_no_memory() -> None:
    assert end_us(10**18) == end_us(200)


@pytest.mark.parametrize(
    ("n", "expected"),
    [(1, end_us(3)), (10, end_us(3)), (11, end_us(20)), (19, end_us(20)), (20, end_us(30)), (99, end_us(30))],
)
def test_nth(n: int, expected: int) -> None:
    assert nth_us([(20, 9), (3, 10), (30, 1)], n) == expected


def test_nth_of_nothing() -> None:
    assert nth_us([], 1) == 0


@pytest.mark.parametrize(("percent", "ms"), [(50, end_us(10) / 1000), (95, end_us(20) / 1000), (99, end_us(30) / 1000)])
def test_percentiles(percent: int, ms: float) -> None:
    assert percentile_ms({20: 9, 10: 10, 30: 1}, percent) == ms
    assert percentile_ms({}, percent) == 0
