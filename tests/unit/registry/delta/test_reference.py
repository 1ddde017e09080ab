"""From what is signed to the index: any failure is a DeltaFailed, since a model can always be had without it."""

import pytest
from delta_box import MIB, RangedSource, Turn, entry_of, noise

from appliance import limits
from appliance.errors import Cancelled
from appliance.registry.delta import index, reference
from appliance.registry.delta.failures import DeltaFailed
from appliance.registry.release import Chunks
from appliance.registry.sources.failures import Absent, Malformed, Refused, Unreachable
from appliance.store.manifest import digest_of

ENTRY = entry_of(noise(1, 2 * MIB))
FILE = index.encode([ENTRY])
SIGNED = Chunks(digest_of(FILE), len(FILE))


def failure(source: RangedSource, wanted: Chunks = SIGNED) -> str:
    with pytest.raises(DeltaFailed) as caught:
        reference.fetch(source, "models/press", wanted)
    assert source.open == 0
    return caught.value.reason


def test_the_signed_index_is_fetched() -> None:
    source = RangedSource(FILE)
    assert reference.fetch(source, "models/press", SIGNED).of(ENTRY.digest, ENTRY.size) == ENTRY
    assert source.asked == [(0, None)]


@pytest.mark.parametrize(
    "turn",
    [
        Turn(refuse=Absent("no")),
        Turn(refuse=Refused("no")),
        Turn(refuse=Unreachable("no")),
        Turn(refuse=Malformed("no")),
        Turn(cut=0),
        Turn(cut=100),
        Turn(end=0),
        Turn(end=len(FILE) - 1),
        Turn(shift=1),
        Turn(instead=FILE + b"x"),
        Turn(instead=FILE[:-1] + b"?"),
        Turn(instead=bytes(20 * MIB)),
    ],
)
def test_what_can_go_wrong(turn: Turn) -> None:
    source = RangedSource(FILE)
    source.turns = [turn]
    assert failure(source) == "NO_INDEX"
    assert source.sent <= len(FILE) + 1


def test_a_signed_file_that_is_no_index() -> None:
    data = b"signed by mistake"
    assert failure(RangedSource(data), Chunks(digest_of(data), len(data))) == "BAD_INDEX"


@pytest.mark.parametrize(
    ("size", "sha256"),
    [
        (0, "0" * 64),
        (-1, "0" * 64),
        (limits.delta_index_bytes_max + 1, "0" * 64),
        (10, ""),
        (10, "0" * 63),
        (10, "G" * 64),
    ],
)
def test_what_cannot_be_an_index_is_not_asked_for(size: int, sha256: str) -> None:
    source = RangedSource(FILE)
    assert failure(source, Chunks(f"sha256:{sha256}", size)) == "NO_INDEX"
    assert source.asked == []


def test_what_comes_is_paced_and_may_be_stopped() -> None:
    came: list[int] = []
    assert reference.read(RangedSource(FILE), "models/press", SIGNED, came.append) == FILE
    assert sum(came) == len(FILE)

    def stop(_count: int) -> None:
        raise Cancelled("stopped")

    source = RangedSource(FILE)
    with pytest.raises(Cancelled):
        reference.fetch(source, "models/press", SIGNED, stop)
    assert source.open == 0
