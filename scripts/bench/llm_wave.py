"""Clients that begin together: a wave of calls each, or streams that run while something else happens."""

import threading
import time
from collections.abc import Sequence

from bench.llm_clients import Ask, connect
from bench.llm_load import Call, ask_once
from bench.target import BenchError

WATCH_S = 0.005


def run_wave(address: str, ask: Ask, prompts: Sequence[Sequence[str]]) -> list[list[Call]]:
    """One thread and one connection for each client, released together; client i asks prompts[i], one after another.

    Returns the calls of each client, failed ones too.
    """
    clients = [connect(address) for _ in prompts]
    calls: list[list[Call]] = [[] for _ in prompts]
    start = threading.Barrier(len(prompts))

    def client_thread(number: int) -> None:
        start.wait()
        try:
            calls[number].extend(ask_once(clients[number], ask, prompt) for prompt in prompts[number])
        finally:
            clients[number].close()

    threads = [threading.Thread(target=client_thread, args=(number,), daemon=True) for number in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return calls


class Streams:
    """Answers that run until the block is left; their calls can be watched meanwhile."""

    def __init__(self, address: str, ask: Ask, prompts: Sequence[str]) -> None:
        self.calls = [Call(0) for _ in prompts]
        self._address, self._ask = address, ask
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(call, prompt), daemon=True)
            for call, prompt in zip(self.calls, prompts, strict=True)
        ]

    def _run(self, call: Call, prompt: str) -> None:
        client = connect(self._address)
        try:
            ask_once(client, self._ask, prompt, call, self._stop)
        finally:
            client.close()

    def __enter__(self) -> "Streams":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Cancels what still runs, at its next token."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_until_all_speak(self, chunks: int, timeout_s: float) -> None:
        """Return once each has given so many chunks; BenchError if one ends before, or in ``timeout_s``."""
        end = time.monotonic() + timeout_s
        while any(len(call.arrivals_ns) < chunks for call in self.calls):
            ended = [call for call in self.calls if call.end_ns and len(call.arrivals_ns) < chunks]
            if ended:
                why = ended[0].error or f"it ended after {ended[0].tokens} tokens; is ignore_eos honoured?"
                raise BenchError(f"{self._address}: a stream did not begin: {why}")
            if time.monotonic() > end:
                raise BenchError(f"{self._address}: not all streams gave {chunks} tokens within {timeout_s:g} s")
            time.sleep(WATCH_S)
