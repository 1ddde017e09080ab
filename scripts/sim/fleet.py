"""One release and a fleet: an event queue for time, the real planner for decisions, a shared line for the network.

A box polls; what it then does is what appliance/registry/sync/planner.py says. Between the polls of a box at which its
plan cannot differ (SyncPlan.wakes_s) no plan is made; those polls are only counted.
"""

import dataclasses
import heapq
import random
from collections import Counter

import msgspec

from appliance.registry.release import Release, Wave
from appliance.registry.sync import waves
from appliance.registry.sync.facts import Device, Facts, Line, Policy
from appliance.registry.sync.planner import plan
from sim.network import SharedLine

# The moment of the release; a day that begins at midnight UTC.
START_S = 1_800_057_600
# A conditional request for the timestamp that has not changed, and the answer. With TLS kept open, headers included.
_IDLE_REQUESTS, _IDLE_BYTES = 1, 700
# What else a poll costs when something is new: snapshot, targets and the line's role, and the release's manifest.
_NEWS_REQUESTS, _NEWS_BYTES = 4, 13_000


@dataclasses.dataclass(frozen=True)
class Scenario:
    """``waves``: (percent, hours after the release). ``site``: boxes behind one pull-through cache, 0: none.

    ``delta``: the share of the bytes that is fetched. Rates in bytes a second. Without ``jitter`` all boxes poll at once.
    """

    name: str
    boxes: int
    bytes: float
    egress: float
    link: float
    poll_s: float = 3600.0
    jitter: bool = True
    waves: tuple[tuple[float, float], ...] = ()
    site: int = 0
    lan: float = 125e6
    delta: float = 1.0
    files: int = 4
    seed: int = 1


@dataclasses.dataclass(frozen=True)
class Result:
    """Times in seconds after the release. ``server_bytes`` left the registry, metadata and idle polls included."""

    name: str
    boxes: int
    requests: int
    requests_mean: float
    requests_peak: int
    server_bytes: float
    egress_peak_flows: int
    s50: float
    s95: float
    s100: float
    plans: int


class Fleet:
    """One run. The same scenario gives the same result."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._line = SharedLine(scenario.egress, scenario.link)
        chance = random.Random(scenario.seed)
        self._ids = [f"{chance.getrandbits(64):016x}" for _ in range(scenario.boxes)]
        self._polls: list[tuple[float, int]] = []
        self._per_second: Counter[int] = Counter()
        self._bytes = 0.0
        self._done_s: list[float] = []
        self._plans = 0
        self._peak_flows = 0
        # By site: boxes that wait for its cache; None once it is filled.
        self._caches: dict[int, list[int] | None] = {}
        self._facts = _facts(scenario)

    def run(self) -> Result:
        """Until the last box has it. Raises ValueError when some never will."""
        for box in range(self._scenario.boxes):
            heapq.heappush(self._polls, (self._next_poll_s(box, 0.0), box))
        while self._polls or self._line.flows:
            if self._line.flows and (not self._polls or self._line.end_s <= self._polls[0][0]):
                at_s, who = self._line.end()
                self._downloaded(at_s, who)
            else:
                at_s, box = heapq.heappop(self._polls)
                self._poll(at_s, box)
        self._count_idle_polls(max(self._done_s))
        return self._result()

    def _poll(self, at_s: float, box: int) -> None:
        device = Device(self._ids[box], "1.0.0")
        self._plans += 1
        # Whole seconds for the planner; half a millisecond is rounding.
        found = plan(msgspec.structs.replace(self._facts, device=device, now_s=int(START_S + at_s + 5e-4)))
        if found.installs:
            self._count(at_s, _NEWS_REQUESTS, _NEWS_BYTES)
            self._download(at_s, box, found.installs[0].fetch_bytes * self._scenario.delta)
        elif found.wakes_s:
            heapq.heappush(self._polls, (self._next_poll_s(box, found.wakes_s - START_S), box))
        else:
            raise ValueError(f"a box never gets it: {found.waiting}")

    def _download(self, at_s: float, box: int, size: float) -> None:
        scenario = self._scenario
        if scenario.site:
            site = box // scenario.site
            waiting = self._caches.get(site, [])
            if waiting is None:
                self._done_s.append(at_s + size / scenario.lan)
                return
            waiting.append(box)
            self._caches[site] = waiting
            if len(waiting) > 1:
                return
        self._count(at_s, scenario.files, size)
        self._line.begin(at_s, box, size)
        self._peak_flows = max(self._peak_flows, self._line.flows)

    def _downloaded(self, at_s: float, box: int) -> None:
        scenario = self._scenario
        if not scenario.site:
            self._done_s.append(at_s)
            return
        site = box // scenario.site
        waiting = self._caches[site] or []
        self._caches[site] = None
        # The boxes of a site share its network.
        size = self._facts.releases[0].bytes * scenario.delta
        self._done_s += [at_s + size / scenario.lan * (n + 1) for n in range(len(waiting))]

    def _next_poll_s(self, box: int, after_s: float) -> float:
        """At that moment or later, in seconds after the release."""
        poll_s = self._scenario.poll_s
        if self._scenario.jitter:
            # A hair earlier: a poll at that very moment counts.
            return waves.next_poll_s(self._ids[box], poll_s, START_S + after_s - 1e-6) - START_S
        return -(-after_s // poll_s) * poll_s

    def _count(self, at_s: float, requests: int, size: float) -> None:
        self._per_second[int(at_s)] += requests
        self._bytes += size

    def _count_idle_polls(self, end_s: float) -> None:
        """Everybody asks once in each interval, whatever else happens."""
        polls = 0
        for box in range(self._scenario.boxes):
            at_s = self._next_poll_s(box, 0.0)
            while at_s <= end_s:
                self._per_second[int(at_s)] += _IDLE_REQUESTS
                polls += 1
                at_s += self._scenario.poll_s
        self._bytes += polls * _IDLE_BYTES

    def _result(self) -> Result:
        done = sorted(self._done_s)
        count = self._scenario.boxes
        requests = sum(self._per_second.values())
        return Result(
            name=self._scenario.name,
            boxes=count,
            requests=requests,
            # At least one interval: with one box after the other gone quiet the rest is idle polls.
            requests_mean=requests / max(done[-1], self._scenario.poll_s),
            requests_peak=max(self._per_second.values()),
            server_bytes=self._bytes,
            egress_peak_flows=self._peak_flows,
            s50=done[(count * 50 + 99) // 100 - 1],
            s95=done[(count * 95 + 99) // 100 - 1],
            s100=done[-1],
            plans=self._plans,
        )


def _facts(scenario: Scenario) -> Facts:
    release = Release(
        line="press",
        version="2.0.0",
        repository="models/press",
        digest="sha256:" + "2" * 64,
        manifest_bytes=2000,
        bytes=int(scenario.bytes),
        counter=2,
        released_s=START_S,
        waves=tuple(Wave(percent, int(START_S + hours * 3600)) for percent, hours in scenario.waves),
    )
    return Facts(
        device=Device("", "1.0.0"),
        policy=Policy(),
        releases=(release,),
        now_s=START_S,
        fresh_until_s=START_S + 365 * 86_400,
        lines={"press": Line("1.0.0", counter=1)},
    )
