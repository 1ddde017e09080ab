"""One call of a client on its way through an engine: its lease, its deadline, and what its cancellation means."""

import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType

import grpc

from appliance.answers import AnyAnswer
from appliance.calls import AnyCall
from appliance.control import Route
from appliance.errors import Cancelled
from appliance.serve import deadlines
from appliance.types import Buffer
from appliance.worker.lease import Lease
from appliance.worker.regions import SharedRegion
from appliance.worker.router import Router


class Caller:
    """The client's side of a running call, for one lease after another (a stream has many).

    ``context.add_callback`` runs its function when the call ends for whatever reason: then the engine is told.
    """

    def __init__(self, context: grpc.ServicerContext) -> None:
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._gone = False
        self.context = context
        if not context.add_callback(self._end):
            self._gone = True

    def _end(self) -> None:
        with self._lock:
            self._gone = True
            lease = self._lease
        if lease is not None:
            lease.cancel()

    def _hold(self, lease: Lease | None) -> None:
        with self._lock:
            self._lease = lease
            if self._gone and lease is not None:
                raise Cancelled("the caller cancelled this request")

    def work(
        self,
        router: Router,
        name: str,
        version: str = "",
        *,
        bounded: bool = True,
        sticky: str = "",
        instance: str = "",
    ) -> "Work":
        """A place on a model's engine, chosen as Router.acquire does; raises what that raises."""
        return Work(self, Lease(router, name, version, bounded=bounded, sticky=sticky, instance=instance))


class Work:
    """A leased place on an engine that ends with its client. Use as a context manager."""

    __slots__ = ("_caller", "_lease", "context", "route")

    def __init__(self, caller: Caller, lease: Lease) -> None:
        self._caller = caller
        self._lease = lease
        self.route: Route = lease.route
        self.context = caller.context

    def __enter__(self) -> "Work":
        try:
            self._caller._hold(self._lease)
        except Cancelled:
            self._lease.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._caller._hold(None)
        self._lease.__exit__(kind, error, trace)

    def exchange(
        self, call: AnyCall, buffers: Sequence[Buffer] = (), regions: Sequence[SharedRegion] = ()
    ) -> tuple[AnyAnswer, memoryview]:
        """The one answer; raises what Lease.exchange raises, DeadlineExceeded in place of Cancelled where it is due."""
        try:
            return self._lease.exchange(call, buffers, regions)
        except Cancelled:
            raise deadlines.why_cancelled(call.deadline_ns, time.monotonic_ns()) from None

    def stream(self, call: AnyCall, buffers: Sequence[Buffer] = ()) -> Iterator[tuple[AnyAnswer, memoryview]]:
        """The answers as they come; raises as ``exchange`` does."""
        try:
            yield from self._lease.stream(call, buffers)
        except Cancelled:
            raise deadlines.why_cancelled(call.deadline_ns, time.monotonic_ns()) from None
