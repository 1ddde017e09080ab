"""Who waits, and who is next: by priority, then the client that was given least, then by arrival.

What a client was given is counted in tokens (Virtual Token Counter: Sheng et al., "Fairness in Serving Large Language
Models", 2024). A client that comes back after a pause starts level with the least served of those that are there: it
neither pays for what it used when nobody else was there, nor collects a claim while it is away.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from appliance import limits


class InLine(Protocol):
    """What waits."""

    priority: int
    client: str


Item = TypeVar("Item", bound=InLine)


class Line(Generic[Item]):
    """See the module. ``charge`` says what a client was given, ``enter`` and ``leave`` who is there."""

    def __init__(self) -> None:
        self._lanes: dict[int, dict[str, deque[Item]]] = {}
        self._given: OrderedDict[str, float] = OrderedDict()
        self._present: dict[str, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Item]:
        for priority in sorted(self._lanes):
            for lane in self._lanes[priority].values():
                yield from lane

    def push(self, item: Item) -> None:
        """Takes a call that has just come: behind the others of its client and priority."""
        self.enter(item.client)
        self._lane(item).append(item)
        self._count += 1

    def push_back(self, item: Item) -> None:
        """Takes a call that had started and was set back: before the others of its client and priority."""
        self._lane(item).appendleft(item)
        self._count += 1

    def remove(self, item: Item) -> None:
        """Takes a call out of the line; ValueError when it is not there. Its client is still there: see ``leave``."""
        priority, client = _class_of(item), item.client
        self._lanes[priority][client].remove(item)
        self._count -= 1
        if not self._lanes[priority][client]:
            del self._lanes[priority][client]
        if not self._lanes[priority]:
            del self._lanes[priority]

    def in_order(self) -> Iterator[Item]:
        """Each client's calls in their order, the clients by what they were given: who is next comes first."""
        for priority in sorted(self._lanes):
            lanes = self._lanes[priority]
            for client in sorted(lanes, key=lambda name: self._given.get(name, 0.0)):
                yield from lanes[client]

    def ahead_of(self, priority: int) -> int:
        """How many would be served before a new call of this priority, if its client had been given the most."""
        least = priority or limits.priority_default
        return sum(len(lane) for p, lanes in self._lanes.items() if p <= least for lane in lanes.values())

    def charge(self, client: str, tokens: float) -> None:
        """``client`` was given so many tokens of work."""
        self._given[client] = self._given.get(client, 0.0) + tokens

    def enter(self, client: str) -> None:
        """One more call of ``client`` is here, waiting or running."""
        if not self._present.get(client):
            others = [self._given.get(name, 0.0) for name in self._present]
            self._given[client] = max(self._given.get(client, 0.0), min(others, default=0.0))
            self._given.move_to_end(client)
        self._present[client] = self._present.get(client, 0) + 1

    def leave(self, client: str) -> None:
        """One call of ``client`` has ended."""
        left = self._present[client] - 1
        if left:
            self._present[client] = left
            return
        del self._present[client]
        while len(self._given) > limits.clients_remembered_max + len(self._present):
            oldest = next(name for name in self._given if name not in self._present)
            del self._given[oldest]

    def _lane(self, item: Item) -> deque[Item]:
        return self._lanes.setdefault(_class_of(item), {}).setdefault(item.client, deque())


def _class_of(item: InLine) -> int:
    return item.priority or limits.priority_default
