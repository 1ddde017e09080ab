"""Chats that go on until they are stopped: K clients, each of which begins the next chat when one has ended."""

import threading
import time

import numpy as np

from bench.llm_clients import Ask, connect
from bench.llm_load import Call, ask_once
from bench.llm_prompts import DEFAULT_PROMPT
from bench.target import BenchError

WATCH_S = 0.01
SPEAK_S_MAX = 60.0
# Into each stream before a window opens: by then all prompts have been computed.
SETTLED_CHUNKS = 4


class Chats:
    """Runs while the block lasts."""

    def __init__(self, address: str, ask: Ask, clients: int, name: str) -> None:
        """``name`` makes the prompts differ from those of every other run."""
        self._address, self._ask, self._name = address, ask, name
        self._stop = threading.Event()
        self._calls: list[list[Call]] = [[Call(0)] for _ in range(clients)]
        self._threads = [threading.Thread(target=self._run, args=(k,), daemon=True) for k in range(clients)]

    def _run(self, number: int) -> None:
        client, mine = connect(self._address), self._calls[number]
        try:
            while not self._stop.is_set():
                prompt = f"Case {self._name}-{number}-{len(mine)}. {DEFAULT_PROMPT}"
                call = mine[-1]
                # To its end, so that how many tokens it had is known and not guessed from its chunks.
                ask_once(client, self._ask, prompt, call)
                if call.error:
                    time.sleep(0.05)  # a server that refuses at once must not be hammered
                mine.append(Call(0))
        finally:
            client.close()

    def __enter__(self) -> "Chats":
        for thread in self._threads:
            thread.start()
        end = time.monotonic() + SPEAK_S_MAX
        while any(len(mine[0].arrivals_ns) < SETTLED_CHUNKS for mine in self._calls):
            failed = [mine[0].error for mine in self._calls if mine[0].end_ns and mine[0].error]
            if failed or time.monotonic() > end:
                self.__exit__()
                raise BenchError(f"not all chats began within {SPEAK_S_MAX:g} s: {failed or 'they are too slow'}")
            time.sleep(WATCH_S)
        return self

    def __exit__(self, *_: object) -> None:
        """No chat begins any more; those that run are waited for."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def calls(self) -> list[Call]:
        """All that began so far."""
        return [call for mine in self._calls for call in mine if call.start_ns]


def tokens_between(calls: list[Call], opens_ns: int, closes_ns: int) -> float:
    """Tokens of all chats that came in that time (time.perf_counter_ns); after the chats have ended.

    A chunk counts as its chat's tokens divided by its chat's chunks: a message may carry two.
    """
    total = 0.0
    for call in calls:
        arrivals = np.asarray(call.arrivals_ns, dtype=np.int64)
        if len(arrivals):
            inside = int(np.count_nonzero((arrivals >= opens_ns) & (arrivals < closes_ns)))
            total += inside * call.tokens / len(arrivals)
    return total
