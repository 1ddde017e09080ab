"""How a registry is reached, as an operator writes it down, and what else a client needs: clock, chance and sleep."""

import random
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from appliance.clock import Clock, SystemClock


class HttpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """``url``: ``https://HOST[:PORT]``. Empty paths: the system's authorities, no client certificate, no credentials.

    ``ca``: PEM file of the only authorities that are trusted. ``credentials``: a file as docker's config.json.
    ``connect_s``: until there is a connection; ``stall_s``: until the next bytes come.
    """

    url: str
    ca: str = ""
    certificate: str = ""
    key: str = ""
    credentials: str = ""
    proxy: str = ""
    connect_s: float = 10.0
    stall_s: float = 30.0


class Means(NamedTuple):
    """What tests hand in. ``chance``: uniform from 0 to 1; ``sleep`` may raise Cancelled."""

    clock: Clock = SystemClock()
    chance: Callable[[], float] = random.random
    sleep: Callable[[float], None] = time.sleep
