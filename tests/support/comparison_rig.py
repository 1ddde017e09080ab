"""What tests of comparisons do with a rig of `Models`: begin one, and tell what front-ends saw."""

import pytest
from models_rig import Rig

from appliance.comparison import Comparison, Plan, Side, Tally
from appliance.control import Route
from appliance.errors import ApplianceError
from appliance.types import ModelState

RULE = Plan(calls=10, by_rule=True)
BY_HAND = Plan()
READY, STORED = ModelState.READY, ModelState.STORED


def quiet(_progress: object) -> None:
    """Nobody listens."""


def active_route(rig: Rig) -> Route:
    return next(route for _, _, route in rig.models.rows() if route.active)


async def begin(rig: Rig, plan: Plan = BY_HAND, **script: object) -> Comparison:
    """Of 2.0.0 with 1.0.0, which is active."""
    await rig.add("2.0.0", activate=False, **script)
    return await rig.models.comparisons.begin("m", "2.0.0", plan, quiet)


def count(rig: Rig, **counts: int) -> None:
    """A front-end tells of the comparison that runs."""
    number = rig.models.comparisons.show("m").began_ms
    sides = {"candidate": Side(counts.pop("calls", 0), counts.pop("failed", 0))}
    rig.models.comparisons.counted((Tally(number, **counts, **sides),))


async def refused(work: object) -> ApplianceError:
    with pytest.raises(ApplianceError) as caught:
        await work  # type: ignore[misc]
    return caught.value
