"""Clients that call a server over TLS while its certificate changes: what is dropped is kept."""

import threading
from collections.abc import Callable

import grpc
from triton_calls import SECONDS, stub
from tritonclient.grpc import service_pb2


class Callers:
    """Two threads that call without a pause, one each time over a new connection, one always over the same."""

    def __init__(self, channel: Callable[[], grpc.Channel]) -> None:
        self._channel = channel
        self._over = False
        self._changed = threading.Condition()
        self.answered = [0, 0]
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._always_new, self._always_one)]

    def _always_new(self) -> None:
        while not self._over:
            with self._channel() as channel:
                self._call(channel, 0)

    def _always_one(self) -> None:
        with self._channel() as channel:
            while not self._over:
                self._call(channel, 1)

    def _call(self, channel: grpc.Channel, number: int) -> None:
        try:
            stub(channel).ServerLive(service_pb2.ServerLiveRequest(), timeout=SECONDS)
        except grpc.RpcError as error:
            self.failures.append(str(error))
            return
        with self._changed:
            self.answered[number] += 1
            self._changed.notify_all()

    def more(self) -> None:
        """Waits until each has had two answers since: the second to a call that began after now."""
        with self._changed:
            before = tuple(self.answered)

            def since() -> bool:
                return all(now > then + 1 for now, then in zip(self.answered, before, strict=True))

            assert self._changed.wait_for(since, SECONDS), f"no answers; {self.failures[-1:]}"

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        self.more()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        for thread in self._threads:
            thread.join(2 * SECONDS)
        assert not any(thread.is_alive() for thread in self._threads)
