"""What the update loop works with, and what it can be doing."""

import random
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

import msgspec

from appliance.clock import Clock
from appliance.registry.loop.errands import Errands
from appliance.registry.loop.gather import Gather
from appliance.registry.loop.record import Record
from appliance.registry.loop.visits import Visits
from appliance.registry.loop.word import Word
from appliance.store.store import Store


class Doing(str, Enum):
    """What is under way. One thing at a time: a box has one line and one disk."""

    WAITING = ""
    ASKING = "asking the registry"
    LOOKING = "reading the manifest of"
    BRINGING = "fetching"
    MAKING_ROOM = "making room for"
    HANDING_ON = "activating"


class Means(NamedTuple):
    """``send`` hands an update on to the supervisor, or asks it to remove a version; how that ended comes with ``ended``."""

    store: Store
    record: Record
    gather: Gather
    errands: Errands
    visits: Visits
    word: Word
    clock: Clock
    send: Callable[[msgspec.Struct], None]
    spread: Callable[[float, float], float] = random.uniform
