"""One streamed answer from a language model, over appliance.v1.Generation or over OpenAI-compatible HTTP.

Both clients are iterators of Chunk with the same meaning, so that the measuring code does not know which it drives.
"""

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

import grpc

from appliance.pb.appliance.v1 import generation_pb2 as pb
from appliance.pb.appliance.v1 import generation_pb2_grpc as pb_grpc
from bench.target import CHANNEL_OPTIONS, status_of


class CallFailed(Exception):
    """One call did not end well; ``code`` is what the error table counts."""

    def __init__(self, code: str, details: str = "") -> None:
        super().__init__(f"{code}: {details}" if details else code)
        self.code = code


@dataclass(frozen=True)
class Chunk:
    """A piece of the answer; the last one of a stream has ``ended`` and the counts (0 where the server tells none)."""

    text: str = ""
    ended: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Ask:
    """What is asked in each call. ``raw`` continues the prompt as it is, without the chat template."""

    model: str
    version: str = ""
    max_tokens: int = 64
    temperature: float = 0.0
    seed: int = 1
    raw: bool = False
    timeout_s: float = 120.0


class Client(Protocol):
    """One connection to one server, used by one thread."""

    def stream(self, ask: Ask, prompt: str) -> Iterator[Chunk]:
        """Send the prompt and give the answer as it comes; CallFailed."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


class ApplianceClient:
    """appliance.v1.Generation, a channel of its own for each client."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._stub = pb_grpc.GenerationStub(self._channel)

    def stream(self, ask: Ask, prompt: str) -> Iterator[Chunk]:
        sampling = pb.Sampling(temperature=ask.temperature, seed=ask.seed)
        options = pb.Options(sampling=sampling, max_tokens=ask.max_tokens)
        common = {"model": ask.model, "version": ask.version}
        try:
            if ask.raw:
                request = pb.GenerateRequest(**common, prompt=prompt, options=options)
                responses = self._stub.Generate(request, timeout=ask.timeout_s, wait_for_ready=True)
            else:
                messages = [pb.ChatMessage(role="user", content=prompt)]
                chat = pb.ChatRequest(**common, messages=messages, options=options)
                responses = self._stub.Chat(chat, timeout=ask.timeout_s, wait_for_ready=True)
            for response in responses:
                usage = response.finished.usage
                ended = response.HasField("finished")
                yield Chunk(response.text, ended, usage.prompt_tokens, usage.completion_tokens)
        except grpc.RpcError as error:
            raise CallFailed(*status_of(error)) from error

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
            "model": ask.model, "max_tokens": ask.max_tokens, "temperature": ask.temperature, "seed": ask.seed,
            "stream": True, "stream_options": {"include_usage": True},
        }  # fmt: skip
        body |= {"prompt": prompt} if ask.raw else {"messages": [{"role": "user", "content": prompt}]}
        path = self._base + ("/v1/completions" if ask.raw else "/v1/chat/completions")
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._host, self._port, timeout=ask.timeout_s)
        self._connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return self._connection.getresponse()

    def stream(self, ask: Ask, prompt: str) -> Iterator[Chunk]:
        try:
            response = self._request(ask, prompt)
            if response.status != 200:
                raise CallFailed(f"HTTP_{response.status}", response.read(500).decode(errors="replace"))
            yield from chunks_of_events(response)
            response.read()
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
    prompt_tokens = completion_tokens = 0
    for line in lines:
        if not line.startswith(b"data:"):
            continue
        data = line[len(b"data:") :].strip()
        if data == b"[DONE]":
            yield Chunk(ended=True, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)
            return
        event = json.loads(data)
        if "error" in event:
            raise CallFailed("STREAM_ERROR", str(event["error"]))
        usage = event.get("usage") or {}
        prompt_tokens = usage.get("prompt_tokens", prompt_tokens)
        completion_tokens = usage.get("completion_tokens", completion_tokens)
        for choice in event.get("choices", []):
            text = choice.get("text") or (choice.get("delta") or {}).get("content") or ""
            if text:
                yield Chunk(text)
    raise CallFailed("EARLY_END", "the stream ended without [DONE]")


def connect(address: str) -> Client:
    """A client for http://host:port (OpenAI-compatible), or for host:port and unix:/path (the appliance)."""
    return OpenAiClient(address) if "://" in address else ApplianceClient(address)
