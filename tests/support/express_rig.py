"""The serve rig with an engine that obeys numbers: requests without any parameter still make it misbehave."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable

from serve_rig import Rig

from appliance import frames
from appliance.answers import Failure, InferDone
from appliance.calls import InferCall
from appliance.control import Route
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.tensor_heads import TensorHead
from appliance.types import ModelState
from appliance.worker.engine_regions import EngineRegions

from engine_simulator import ECHO, TEXT, EngineSimulator  # isort: skip

PATIENCE = 20.0
FAIL, DIE, HOLD, SWAP = 1.0, 2.0, 3.0, 4.0


def request(order: float, number: int = 0) -> pb.ModelInferRequest:
    """One row of three numbers: what the engine is to do, and which answer this is."""
    asked = pb.ModelInferRequest(model_name="echo", id=str(number))
    asked.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    asked.raw_input_contents.append(struct.pack("<3f", order, number, 0))
    return asked


def wait_for(condition: Callable[[], bool]) -> None:
    """Until ``condition`` holds; fails after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        threading.Event().wait(0.005)


class ObedientEngine(EngineSimulator):
    """FAIL: a Failure; DIE: the connection closes; HOLD: answers once ``let_go`` is set; SWAP: heads that lie.

    ``orders``: what it takes a first number for, and gives back instead.
    """

    def __init__(self, path: str) -> None:
        self.let_go = threading.Event()
        self.left = threading.Event()
        self.held = 0
        self.orders: dict[float, float] = {}
        self.connections = 0
        self._holding = threading.Lock()
        super().__init__(path)

    def _serve(self, sock: socket.socket) -> None:
        self.connections += 1
        super()._serve(sock)

    def _infer(self, sock: socket.socket, call: InferCall, body: memoryview, regions: EngineRegions) -> None:
        order = struct.unpack_from("<f", body)[0] if len(body) == 12 else 0.0
        if order in self.orders:
            order = self.orders[order]
            body = memoryview(struct.pack("<f", order) + bytes(body[4:]))
        if order == FAIL:
            frames.send(sock, Failure("RESOURCE_EXHAUSTED", "QUEUE_FULL", "the queue is full"))
        elif order == DIE:
            self._special(sock, "die")
        elif order == SWAP:
            frames.send(sock, InferDone((TensorHead("x", "FP32", (9, 3), 108),)), [bytes(12)])
        else:
            if order == HOLD:
                self._hold(sock)
            super()._infer(sock, call, body, regions)

    def _hold(self, sock: socket.socket) -> None:
        with self._holding:
            self.held += 1
        try:
            while not self.let_go.wait(0.01):
                with contextlib.suppress(BlockingIOError):
                    if sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"":
                        self.left.set()
                        raise OSError("the client went away")
        finally:
            with self._holding:
                self.held -= 1


class ExpressRig(Rig):
    """``engine`` serves the model echo."""

    def __init__(self, threads: int = 48) -> None:
        super().__init__(threads=threads)
        self.threads = threads
        self.engine = ObedientEngine(str(self.folder / "obedient.sock"))

    def __enter__(self) -> "ExpressRig":
        super().__enter__()
        self.apply_all()
        return self

    def apply_all(self, *more: Route) -> None:
        """Routes to the obedient engine, and ``more``."""
        self.apply(
            Route("echo", "1.0.0", ModelState.READY, True, self.engine.path, ECHO),
            Route("text", "1.0.0", ModelState.READY, True, self.text.path, TEXT),
            *more,
        )

    def headers_only(self) -> socket.socket:
        """A connection whose only call never gets its message: HTTP/2 by hand (RFC 9113)."""
        host, port = self.address.rsplit(":", 1)
        sock = socket.create_connection((host, int(port)))
        path = b"/inference.GRPCInferenceService/ModelInfer"
        # Literal header fields without indexing, names in the static table (RFC 7541): POST, http, path, te.
        block = b"\x83\x86" + b"\x04" + bytes([len(path)]) + path + b"\x01\x09localhost"
        block += b"\x0f\x10\x10application/grpc" + b"\x00\x02te\x08trailers"
        settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
        headers = struct.pack(">I", len(block))[1:] + b"\x01\x04" + struct.pack(">I", 1) + block
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + headers)
        return sock

    def __exit__(self, *problem: object) -> None:
        self.engine.let_go.set()
        super().__exit__(*problem)
        self.engine.close()
