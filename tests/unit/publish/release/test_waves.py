"""The arithmetic of waves."""

import pytest

from appliance.errors import InvalidArgument
from appliance.publish.release import waves
from appliance.registry.release import Wave


@pytest.mark.parametrize(
    ("text", "hours", "expected"),
    [
        ("", 24, ()),
        ("100", 24, ((100, 1000),)),
        ("1,5,25,100", 2, ((1, 1000), (5, 8200), (25, 15400), (100, 22600))),
        ("5.0, 100", 0.5, ((5, 1000), (100, 2800))),
        ("10,100", 1 / 3600, ((10, 1000), (100, 1001))),
    ],
)
def test_plan(text, hours, expected):
    assert waves.plan(waves.parse(text), hours, 1000) == tuple(Wave(*one) for one in expected)


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("1,5,25", 1),  # three quarters would never get it
        ("5,1,100", 1),
        ("5,5,100", 1),
        ("0,100", 1),
        ("-1,100", 1),
        ("50,101", 1),
        ("nan,100", 1),
        ("1,100", 0),
        ("1,100", -1),
        ("1,100", float("nan")),
        ("1,100", 1e9),
        ("0.5,100", 1),
        ("one,100", 1),
        ("1,,100", 1),
        (",".join(str(n) for n in range(1, 40)) + ",100", 1),
    ],
)
def test_refused(text, hours):
    with pytest.raises(InvalidArgument) as caught:
        waves.plan(waves.parse(text), hours, 1000)
    assert caught.value.reason == "WAVES"
