"""A front-end's servers in this process, engines simulated, the supervisor a table of answers."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import msgspec

from appliance.config import Config, PathsConfig, ServerConfig
from appliance.control import Route, RouteTable
from appliance.errors import from_code
from appliance.questions import Answer, Nothing, Question, Refusal
from appliance.serve.gate import Gate
from appliance.serve.health import Readiness
from appliance.serve.server import Servers, service_names
from appliance.types import ModelState
from appliance.worker.router import Router

from engine_simulator import ECHO, TEXT, EngineSimulator  # isort: skip


class Supervisor:
    """Answers each question with what ``answers`` holds for its type, and remembers it."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self.answers: dict[type, list[Answer]] = {}

    def ask(self, question: Question, timeout: float | None = None) -> Iterator[Answer]:
        self.asked.append(question)
        for answer in self.answers.get(type(question), [Nothing()]):
            if isinstance(answer, Refusal):
                raise from_code(answer.code, answer.reason, answer.message)
            yield answer


class Rig:
    """Use as a context manager. ``channel`` goes to TCP, ``admin`` to the unix socket."""

    def __init__(self, server: ServerConfig | None = None, threads: int = 64) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="rig")
        self.folder = Path(self._temporary.name)
        server = msgspec.structs.replace(server or ServerConfig(address="127.0.0.1:0"), threads=threads)
        paths = PathsConfig(state=str(self.folder / "state"), runtime=str(self.folder / "run"))
        self.config = Config(server=server, paths=paths)
        self.router = Router(max(1, threads // 2))
        self.readiness = Readiness(service_names())
        self.gate = Gate(threads)
        self.supervisor = Supervisor()
        self.servers = Servers(self.config, self.router, self.readiness, self.gate, self.supervisor)
        self.echo = EngineSimulator(str(self.folder / "echo.sock"))
        self.text = EngineSimulator(str(self.folder / "text.sock"))
        self.epoch = 0

    def __enter__(self) -> "Rig":
        self.address = self.servers.listen_tcp()
        self.socket = self.config.unix_socket
        self.servers.listen_unix(self.socket)
        self.apply(
            Route("echo", "1.0.0", ModelState.READY, True, self.echo.path, ECHO),
            Route("echo", "0.9.0", ModelState.STORED, False),
            Route("text", "1.0.0", ModelState.READY, True, self.text.path, TEXT),
            Route("broken", "1.0.0", ModelState.QUARANTINED, True, reason="it died 6 times"),
            Route("coming", "1.0.0", ModelState.LOADING, True),
        )
        self.servers.start()
        self.channel = grpc.insecure_channel(self.address)
        self.admin = grpc.insecure_channel(f"unix:{self.socket}")
        return self

    def apply(self, *routes: Route, ready: bool = True) -> None:
        self.epoch += 1
        table = RouteTable(self.epoch, routes, ready)
        self.router.apply(table)
        self.readiness.apply(table)

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        self.admin.close()
        self.servers.stop()
        self.echo.close()
        self.text.close()
        self.servers.pool.shutdown(wait=True)
        self._temporary.cleanup()
