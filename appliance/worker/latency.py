"""Durations counted by size: buckets of a quarter of an octave, so that a quantile is known to a fifth. Pure.

Counts of several processes add up bucket by bucket, and a version that was slow last week can be told from one that is
slow now by what was counted since. All durations are in microseconds.
"""

from collections.abc import Iterable, Mapping

# Below this every microsecond has a bucket of its own.
_EXACT_US = 8
# Of some 70 years. Counts may come from a file: a number from there must not ask for all memory.
_LAST = 200


def bucket_of(us: int) -> int:
    """The bucket of a duration; longer ones have higher buckets."""
    if us < _EXACT_US:
        return max(0, us)
    shift = us.bit_length() - 3
    return _EXACT_US + 4 * (shift - 1) + ((us >> shift) & 3)


def end_us(bucket: int) -> int:
    """The first duration beyond the bucket."""
    if bucket < _EXACT_US:
        return bucket + 1
    octave, quarter = divmod(min(bucket, _LAST) - _EXACT_US, 4)
    return (5 + quarter) << (octave + 1)


def nth_us(counts: Iterable[tuple[int, int]], n: int) -> int:
    """A duration that ``n`` of the counted ones do not reach beyond; the longest when there are fewer. 0 without any."""
    longest = 0
    for bucket, count in sorted(counts):
        longest = end_us(bucket)
        n -= count
        if n <= 0:
            break
    return longest


def percentile_ms(counts: Mapping[int, int], percent: int) -> float:
    """A duration that this share of the counted ones does not reach beyond, in milliseconds. 0 without any."""
    return nth_us(counts.items(), -(-sum(counts.values()) * percent // 100)) / 1000
