"""Servers and programs that a benchmark can drive: a Generation and Admin server here, llama.cpp's programs as scripts."""

import stat
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from appliance.pb.appliance.v1 import admin_pb2, admin_pb2_grpc
from appliance.pb.appliance.v1 import generation_pb2 as pb
from appliance.pb.appliance.v1 import generation_pb2_grpc as pb_grpc

MEGABYTE = 1_000_000
LLAMA_SERVER = """#!{python}
import http.server, json, sys
option = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if option["--parallel"] == "13":
    sys.exit("the model could not be loaded")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()
        tokens = asked.get("max_tokens", 2000)
        events = [json.dumps({{"choices": [{{"text": "word "}}]}})] * tokens
        usage = {{"prompt_tokens": 9, "completion_tokens": tokens, "prompt_tokens_details": {{"cached_tokens": 5}}}}
        for event in [*events, json.dumps({{"choices": [], "usage": usage}}), "[DONE]"]:
            self.wfile.write(f"data: {{event}}\\n\\n".encode())
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer((option["--host"], int(option["--port"])), Handler).serve_forever()
"""
BATCHED_BENCH = """#!{python}
import json, sys
option = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if option["--threads"] == "13":
    sys.exit("bad number of threads")
print("some other line")
print(json.dumps({{"pp": int(option["-npp"]), "tg": int(option["-ntg"]), "pl": int(option["-npl"]), "speed_tg": 50.0}}))
"""


def write_program(path: Path, text: str) -> Path:
    """An executable script; {python} in its text is this interpreter."""
    path.write_text(text.format(python=sys.executable))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


class TalkingServer(pb_grpc.GenerationServicer, admin_pb2_grpc.AdminServicer):
    """Says max_tokens words; without a bound, one each millisecond or two for as long as somebody listens."""

    def __init__(self) -> None:
        self.address = ""
        self.requests: list[Any] = []
        self.cancelled = threading.Semaphore(0)
        self.refuse_at = 0
        self.memory = 100 * MEGABYTE
        self._lock = threading.Lock()
        self._never = threading.Event()

    def _talk(self, request: Any, context: grpc.ServicerContext) -> Iterator[pb.GenerateResponse]:
        with self._lock:
            self.requests.append(request)
            refused = len(self.requests) == self.refuse_at
        if refused:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full")
        wanted, said, finished = request.options.max_tokens, 0, threading.Event()
        context.add_callback(lambda: None if finished.is_set() else self.cancelled.release())
        while (not wanted or said < wanted) and context.is_active():
            yield pb.GenerateResponse(text="word ")
            said += 1
            # Paced, so that messages come one by one.
            self._never.wait(0.0015)
        if context.is_active():
            finished.set()
        usage = pb.Usage(prompt_tokens=7, completion_tokens=said)
        yield pb.GenerateResponse(finished=pb.Finished(usage=usage, reused_tokens=3, accepted_tokens=said // 2))

    def Chat(self, request: pb.ChatRequest, context: grpc.ServicerContext) -> Iterator[pb.GenerateResponse]:  # noqa: N802 - generated base class
        yield from self._talk(request, context)

    def Generate(self, request: pb.GenerateRequest, context: grpc.ServicerContext) -> Iterator[pb.GenerateResponse]:  # noqa: N802 - generated base class
        yield from self._talk(request, context)

    def Status(self, request: admin_pb2.StatusRequest, context: grpc.ServicerContext) -> admin_pb2.StatusResponse:  # noqa: N802 - generated base class
        self.memory += MEGABYTE
        models = [
            admin_pb2.ModelStatus(name="m", version="2", active=True, memory_bytes=self.memory),
            admin_pb2.ModelStatus(name="m", version="1", memory_bytes=7),
            admin_pb2.ModelStatus(name="unloaded", version="1", active=True),
        ]
        return admin_pb2.StatusResponse(models=models)


def serve(servicer: TalkingServer, *addresses: str) -> grpc.Server:
    """Start it on a free port of loopback, and at the addresses given besides."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=80))
    pb_grpc.add_GenerationServicer_to_server(servicer, server)
    admin_pb2_grpc.add_AdminServicer_to_server(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    for address in addresses:
        server.add_insecure_port(address)
    server.start()
    return server
