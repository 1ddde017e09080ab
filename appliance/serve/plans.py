"""Plans of signatures, remembered: a signature does not change while its engine is loaded."""

from appliance.control import Route
from appliance.errors import Unavailable
from appliance.serve.validate import Plan

# Loaded versions in one daemon are some dozens; old ones are forgotten all together.
_PLANS_MAX = 512


class Plans:
    """Thread-safe: two threads may at worst make the same plan twice."""

    def __init__(self) -> None:
        self._plans: dict[int, Plan] = {}

    def of(self, route: Route) -> Plan:
        """The plan of a route's signature; raises Unavailable when it has none because it isn't loaded."""
        signature = route.signature
        if signature is None:
            raise Unavailable(
                f"model '{route.name}' version '{route.version}' is not loaded: its inputs and outputs are not known",
                reason="MODEL_NOT_READY",
            )
        # The plan holds the signature, so its id cannot be another's while the plan is here.
        plan = self._plans.get(id(signature))
        if plan is None:
            if len(self._plans) >= _PLANS_MAX:
                self._plans = {}
            plan = self._plans[id(signature)] = Plan(route.name, signature)
        return plan
