"""A blob that is streamed to somebody else: whole or an error, over lines that break."""

import pytest
from flaky_source import FlakySource, Turn

from appliance import limits
from appliance.registry.sources import whole
from appliance.registry.sources.failures import Absent, Malformed, Unreachable
from appliance.store.manifest import Descriptor, digest_of

DATA = bytes(range(256)) * 20_000
BLOB = Descriptor("x/y", digest_of(DATA), len(DATA))


def taken(*turns: Turn) -> tuple[bytes, int, FlakySource]:
    """What came, what was counted, and who was asked."""
    source, counted = FlakySource(DATA), []
    source.turns[BLOB.digest] = list(turns)
    return b"".join(whole.pieces(source, "r", BLOB, counted.append)), sum(counted), source


@pytest.mark.parametrize(
    "turns",
    [
        (),
        (Turn(cut=1),),
        (Turn(cut=1_000_000), Turn(cut=1), Turn(cut=3_000_000)),
        (Turn(cut=1_500_000), Turn(whole=True)),
        (Turn(cut=1_500_000), Turn(whole=True, cut=500_000), Turn(whole=True, cut=2_000_000)),
        (Turn(cut=1_000_000), *[Turn(refuse=Unreachable("away"))] * limits.pull_idle_tries_max),
        (Turn(cut=len(DATA)),),
    ],
)
def test_a_line_that_breaks_is_taken_up_where_it_broke(turns: tuple[Turn, ...]) -> None:
    data, counted, source = taken(*turns)
    assert data == DATA
    assert counted == len(DATA)
    if turns and not turns[-1].whole:
        assert source.asked[-1][1] > 0 or turns[0].cut == len(DATA)


@pytest.mark.parametrize(
    ("turns", "error"),
    [
        ((Turn(refuse=Unreachable("away")),), Unreachable),
        ((Turn(cut=0),), Unreachable),
        ((Turn(cut=1_000_000), *[Turn(refuse=Unreachable("away"))] * 9), Unreachable),
        ((Turn(cut=1_000_000), *[Turn(whole=True, cut=1_000_000)] * 9), Unreachable),
        ((Turn(cut=1_000_000), Turn(refuse=Absent("gone"))), Absent),
        ((Turn(cut=1_000_000), Turn(shift=1)), Malformed),
        ((Turn(cut=1_000_000), Turn(instead=DATA[::-1])), Malformed),
        ((Turn(more=b"!"),), Malformed),
        ((Turn(instead=DATA[:-1] + b"!"),), Malformed),
        ((Turn(instead=DATA[:-1]),) * 9, Unreachable),
    ],
)
def test_what_cannot_be_had_whole(turns: tuple[Turn, ...], error: type[Exception]) -> None:
    source, counted = FlakySource(DATA), []
    source.turns[BLOB.digest] = list(turns)
    with pytest.raises(error):
        b"".join(whole.pieces(source, "r", BLOB, counted.append))
    # Whoever takes pieces until the error has never had all.
    assert sum(counted) < len(DATA)


def test_nothing_is_a_blob_too() -> None:
    source, empty = FlakySource(b""), Descriptor("x/y", digest_of(b""), 0)
    assert b"".join(whole.pieces(source, "r", empty)) == b""
