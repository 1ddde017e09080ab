import pytest

from appliance.registry.http.answers import ranged_length
from appliance.registry.sources.failures import Malformed


@pytest.mark.parametrize(
    ("value", "length", "announced"),
    [
        ("bytes 1000-1099/300000", 100, 100),
        ("bytes 1000-1099/*", None, 100),
        # Less than asked for: the blob ends there, or the caller sees that something is missing.
        ("bytes 1000-1000/300000", 100, 1),
    ],
)
def test_ranges(value: str, length: int | None, announced: int) -> None:
    assert ranged_length({"Content-Range": value}, 1000, length) == announced


@pytest.mark.parametrize(
    "value", ["bytes 999-1050/9999", "bytes 1001-1050/9999", "bytes 1000-1100/9999", "bytes 1000-999/9999"]
)
def test_ranges_that_are_not_those_asked_for(value: str) -> None:
    with pytest.raises(Malformed):
        ranged_length({"Content-Range": value}, 1000, 100)
