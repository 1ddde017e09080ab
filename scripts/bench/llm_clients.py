"""One streamed answer from a language model, over appliance.v1.Generation or over OpenAI-compatible HTTP.

Both clients are iterators of Chunk with the same meaning, so that the measuring code does not know which it drives.
"""

import http.client
import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

import grpc
from grpc.experimental import ChannelOptions

from appliance.pb.appliance.v1 import generation_pb2 as pb
from appliance.pb.appliance.v1 import generation_pb2_grpc as pb_grpc
from bench.target import CHANNEL_OPTIONS, BenchError, is_reachable, status_of

# The thread that reads a stream also polls its connection: 0.12 ms of processor time a message instead of 0.16 ms, which
# the server gets when both share the cores.
STREAM_OPTIONS: list[tuple[str, int]] = [*CHANNEL_OPTIONS, (ChannelOptions.SingleThreadedUnaryStream, 1)]


class CallFailed(Exception):
    """One call did not end well; ``code`` is what the error table counts."""

    def __init__(self, code: str, details: str = "") -> None:
        super().__init__(f"{code}: {details}" if details else code)
        self.code = code


@dataclass(frozen=True)
class Chunk:
    """A piece of the answer; the last one of a stream has ``ended`` and the counts (0 where the server tells none).

    ``reused_tokens``: of the prompt, computed before for another call. ``accepted_tokens``: of the answer, guessed right.
    """

    text: str = ""
    ended: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reused_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True)
class Ask:
    """What is asked in each call.

    ``raw`` continues the prompt as it is, without the chat template (and without ``system``). ``max_tokens`` 0: as many
    as the server allows. ``ignore_eos``: exactly ``max_tokens`` tokens, whatever the model says.
    """

    model: str
    version: str = ""
    max_tokens: int = 64
    temperature: float = 0.0
    seed: int = 1
    raw: bool = False
    timeout_s: float = 120.0
    ignore_eos: bool = False
    system: str = ""

    @property
    def roles(self) -> dict[str, str]:
        """Messages before the prompt, by role."""
        return {"system": self.system} if self.system else {}


class Client(Protocol):
    """One connection to one server, used by one thread."""

    def stream(self, ask: Ask, prompt: str) -> Generator[Chunk, None, None]:
        """Send the prompt and give the answer as it comes; CallFailed. Closing it early cancels the call."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


class ApplianceClient:
    """appliance.v1.Generation, a channel of its own for each client."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, options=STREAM_OPTIONS)
        self._stub = pb_grpc.GenerationStub(self._channel)

    def stream(self, ask: Ask, prompt: str) -> Generator[Chunk, None, None]:
        sampling = pb.Sampling(temperature=ask.temperature, seed=ask.seed)
        options = pb.Options(sampling=sampling, max_tokens=ask.max_tokens, ignore_eos=ask.ignore_eos)
        common = {"model": ask.model, "version": ask.version}
        if ask.raw:
            request = pb.GenerateRequest(**common, prompt=prompt, options=options)
            responses = self._stub.Generate(request, timeout=ask.timeout_s, wait_for_ready=True)
        else:
            said = {**ask.roles, "user": prompt}
            messages = [pb.ChatMessage(role=role, content=text) for role, text in said.items()]
            chat = pb.ChatRequest(**common, messages=messages, options=options)
            responses = self._stub.Chat(chat, timeout=ask.timeout_s, wait_for_ready=True)
        try:
            for response in responses:
                done, usage = response.finished, response.finished.usage
                ended = response.HasField("finished")
                counts = (usage.prompt_tokens, usage.completion_tokens, done.reused_tokens, done.accepted_tokens)
                yield Chunk(response.text, ended, *counts)
        except grpc.RpcError as error:
            raise CallFailed(*status_of(error)) from error
        finally:
            responses.cancel()

    def close(self) -> None:
        self._channel.close()


class OpenAiClient:
    """/v1/chat/completions or /v1/completions with server-sent events, as llama-server gives them; kept alive."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"--peer {url!r}: expected http://host:port")
        self._host, self._port, self._base = parts.hostname, parts.port or 80, parts.path.rstrip("/")
        self._connection: http.client.HTTPConnection | None = None

    def _request(self, ask: Ask, prompt: str) -> http.client.HTTPResponse:
        body: dict[str, object] = {
            "model": ask.model, "temperature": ask.temperature, "seed": ask.seed,
            "stream": True, "stream_options": {"include_usage": True},
        }  # fmt: skip
        if ask.max_tokens:
            body["max_tokens"] = ask.max_tokens
        if ask.ignore_eos:
            body["ignore_eos"] = True  # llama-server's own
        said = {**ask.roles, "user": prompt}
        messages = [{"role": role, "content": text} for role, text in said.items()]
        body |= {"prompt": prompt} if ask.raw else {"messages": messages}
        path = self._base + ("/v1/completions" if ask.raw else "/v1/chat/completions")
        return self._post(path, json.dumps(body), ask.timeout_s)

    def _post(self, path: str, body: str, timeout_s: float) -> http.client.HTTPResponse:
        """On the kept connection; on a new one if the server has closed that meanwhile, as llama-server does."""
        kept = self._connection is not None
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        try:
            self._connection.request("POST", path, body, {"Content-Type": "application/json"})
            return self._connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError):
            if not kept:
                raise
        self.close()
        return self._post(path, body, timeout_s)

    def stream(self, ask: Ask, prompt: str) -> Generator[Chunk, None, None]:
        try:
            response = self._request(ask, prompt)
            if response.status != 200:
                raise CallFailed(f"HTTP_{response.status}", response.read(500).decode(errors="replace"))
            yield from chunks_of_events(response)
            response.read()
        except GeneratorExit:
            self.close()
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise CallFailed(type(error).__name__, str(error)) from error
        except CallFailed:
            self.close()
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def chunks_of_events(lines: Iterator[bytes] | http.client.HTTPResponse) -> Iterator[Chunk]:
    """Read server-sent events of an OpenAI-compatible stream; CallFailed for an error event or an early end."""
    prompt_tokens = completion_tokens = reused_tokens = 0
    for line in lines:
        if not line.startswith(b"data:"):
            continue
        data = line[len(b"data:") :].strip()
        if data == b"[DONE]":
            yield Chunk("", True, prompt_tokens, completion_tokens, reused_tokens)
            return
        event = json.loads(data)
        if "error" in event:
            raise CallFailed("STREAM_ERROR", str(event["error"]))
        usage = event.get("usage") or {}
        prompt_tokens = usage.get("prompt_tokens", prompt_tokens)
        completion_tokens = usage.get("completion_tokens", completion_tokens)
        reused_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", reused_tokens)
        for choice in event.get("choices", []):
            text = choice.get("text") or (choice.get("delta") or {}).get("content") or ""
            if text:
                yield Chunk(text)
    raise CallFailed("EARLY_END", "the stream ended without [DONE]")


def connect(address: str) -> Client:
    """A client for http://host:port (OpenAI-compatible), or for host:port and unix:/path (the appliance)."""
    return OpenAiClient(address) if "://" in address else ApplianceClient(address)


def first_answer(label: str, address: str, ask: Ask, prompt: str) -> str:
    """One real answer, shown so that a person sees that the model talks sense; BenchError if there is none."""
    where = address.partition("://")[2].partition("/")[0] if "://" in address else address
    if not is_reachable(where):
        raise BenchError(f"{label}: nothing listens on {address}")
    client = connect(address)
    try:
        text = "".join(chunk.text for chunk in client.stream(ask, prompt))
    except CallFailed as failed:
        raise BenchError(f"{label} ({address}): the first call failed: {failed}") from failed
    finally:
        client.close()
    if not text:
        raise BenchError(f"{label} ({address}): the first answer is empty: ask with another --prompt")
    return text
