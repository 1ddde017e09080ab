"""An engine that is a thread: speaks frames on a unix socket, echoes tensors, and does on purpose what engines may do.

By the call's parameters (InferCall) or prompt (GenerateCall): ``wait`` (until the connection closes), ``die`` (closes
the connection in the middle of the call), ``fail`` (answers with a Failure). With tools it thinks and calls the first.
"""

import contextlib
import socket
import threading
from array import array

from appliance import frames
from appliance.answers import (
    ChoiceDone,
    EmbedDone,
    Failure,
    GenerateDone,
    InferDone,
    ProfileDone,
    RerankDone,
    StatsDone,
    TextPiece,
    TokenizeDone,
)
from appliance.calls import (
    AnyCall,
    EmbedCall,
    GenerateCall,
    InferCall,
    ProfileCall,
    RerankCall,
    ShareCall,
    StatsCall,
    TokenizeCall,
    ToolCall,
)
from appliance.errors import ApplianceError
from appliance.tensor_heads import TensorHead
from appliance.types import EngineStats, ModelKind, ModelSignature, TensorSpec
from appliance.worker.descriptors import DescriptorInbox
from appliance.worker.engine_regions import EngineRegions

ECHO = ModelSignature(
    kind=ModelKind.TENSOR,
    platform="simulator",
    inputs=(TensorSpec("x", "FP32", (-1, 3)), TensorSpec("s", "BYTES", (-1,), optional=True)),
    outputs=(TensorSpec("x", "FP32", (-1, 3)), TensorSpec("s", "BYTES", (-1,))),
)
TEXT = ModelSignature(
    kind=ModelKind.LANGUAGE,
    platform="simulator",
    inputs=(TensorSpec("text_input", "BYTES", (1,)),),
    outputs=(TensorSpec("text_output", "BYTES", (1,)),),
    decoupled=True,
    chats=True,
    embeds=True,
    context_tokens_max=128,
)
_decoder: "frames.Decoder[AnyCall]" = frames.Decoder(AnyCall)


class EngineSimulator:
    """Serves until ``close``. ``calls`` are all that came; ``cancelled`` is set when a client of ``wait`` went away."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.calls: list[AnyCall] = []
        self.profile = b"[]"
        self.shared: list[ShareCall] = []
        self.arrived = threading.Event()
        self.cancelled = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(512)
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for sock in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        inbox, regions = DescriptorInbox(sock), EngineRegions()
        try:
            while True:
                frame = inbox.next()
                assert frame is not None
                call = _decoder.decode(frame[0])
                if isinstance(call, ShareCall):
                    if call.region >= 0:
                        regions.add(call, inbox.descriptor())
                        self.shared.append(call)
                    continue
                self.calls.append(call)
                self.arrived.set()
                self._answer(sock, call, frame[1], regions)
        except (frames.EndOfStream, OSError):
            return
        finally:
            regions.close()

    def _wait(self, sock: socket.socket) -> None:
        # A reset is a close, too, with an answer that nobody has read (unix(7)).
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
        self.cancelled.set()
        raise OSError("the client went away")

    def _say(self, sock: socket.socket, piece: TextPiece) -> None:
        """A client may go away between two pieces, too."""
        try:
            frames.send(sock, piece)
        except OSError:
            self.cancelled.set()
            raise

    def _answer(self, sock: socket.socket, call: AnyCall, body: memoryview, regions: EngineRegions) -> None:
        if isinstance(call, InferCall):
            self._infer(sock, call, body, regions)
        elif isinstance(call, GenerateCall):
            self._generate(sock, call)
        elif isinstance(call, EmbedCall):
            vectors = array("f", [0.5, -1.0] * len(call.texts)).tobytes()
            frames.send(sock, EmbedDone(len(call.texts), 2, 7), [vectors])
        elif isinstance(call, RerankCall):
            frames.send(sock, RerankDone(tuple(len(d) / 2 for d in call.documents), 9))
        elif isinstance(call, TokenizeCall):
            frames.send(sock, TokenizeDone(tuple(call.text.encode())))
        elif isinstance(call, ProfileCall) and call.seconds == 13.0:
            frames.send(sock, Failure("RESOURCE_EXHAUSTED", "PROFILE_RUNNING", "being profiled already"))
        elif isinstance(call, ProfileCall):
            frames.send(sock, ProfileDone(4), [self.profile])
        elif isinstance(call, StatsCall):
            frames.send(sock, StatsDone(EngineStats(success_count=3, success_ns=30, queue_ns=5, inference_count=4)))

    def _special(self, sock: socket.socket, what: object) -> None:
        if what == "wait":
            self._wait(sock)
        if what == "die":
            sock.shutdown(socket.SHUT_RDWR)
            raise OSError("died")

    def _infer(self, sock: socket.socket, call: InferCall, body: memoryview, regions: EngineRegions) -> None:
        do = call.parameters.get("do")
        self._special(sock, do)
        if do == "fail":
            frames.send(sock, Failure("RESOURCE_EXHAUSTED", "QUEUE_FULL", "the queue is full"))
            return
        placement = regions.placement(call)
        wanted = {output.name for output in call.outputs} or {head.name for head in call.tensors}
        tensors = [t for t in regions.tensors(call.tensors, body) if t.name in wanted]
        answer = InferDone(tuple(TensorHead(t.name, t.datatype, t.shape, len(t.data)) for t in tensors))
        buffers = [t.data for t in tensors]
        if placement is not None:
            try:
                answer, buffers = placement.apply(answer, buffers)
            except ApplianceError as error:
                frames.send(sock, Failure(error.code.value, error.reason, error.message))
                return
        frames.send(sock, answer, buffers)

    def _generate(self, sock: socket.socket, call: GenerateCall) -> None:
        prompt = call.prompt if call.prompt is not None else call.messages[-1].content  # type: ignore[index]
        self._special(sock, prompt)
        if prompt == "fail":
            frames.send(sock, Failure("INVALID_ARGUMENT", "CONTEXT_FULL", "the prompt has 200 tokens, 128 fit"))
            return
        if call.tools:
            frames.send(sock, TextPiece(reasoning="hm", tokens=1))
            called = ToolCall("call_1", call.tools[0].name, '{"x": 1}')
            frames.send(sock, TextPiece(tokens=1, tool_calls=(called,)))
            frames.send(sock, GenerateDone("tool_calls", 5, 2))
            return
        # Answers come side by side; the last one is the first to end.
        for word in prompt.split(" "):
            for index in range(call.n):
                self._say(sock, TextPiece(word, 1, index=index))
        if prompt.endswith(" wait"):
            self._wait(sock)
        for index in range(call.n - 1, -1, -1):
            words = prompt.count(" ") + 1
            done = GenerateDone(
                "stop", 5, words, seed=42 + index, index=index, reused_tokens=4, drafted_tokens=3, accepted_tokens=2
            )
            frames.send(sock, ChoiceDone(done) if index else done)
