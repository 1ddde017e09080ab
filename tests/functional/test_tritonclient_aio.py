"""Unmodified tritonclient.grpc.aio programs: the same daemon asked from an event loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as sync_triton
import tritonclient.grpc.aio as triton
from daemon_process import Daemon
from rpc_failures import fails
from settled_counters import eventually_cancelled, settled_counters
from triton_calls import SECONDS, a_pair, given, prompt

GREEDY = given("temperature", np.zeros(1, np.float32), "FP32")
Program = Callable[[triton.InferenceServerClient], Awaitable[None]]


@pytest.fixture
def run(client_daemon: Daemon) -> Callable[[Program], None]:
    """Runs a program with a client of its own."""

    async def main(program: Program) -> None:
        async with triton.InferenceServerClient(client_daemon.address) as client:
            await asyncio.wait_for(program(client), SECONDS)

    return lambda program: asyncio.run(main(program))


async def one_by_one(*requests: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    for request in requests:
        yield request


def test_health_and_metadata(run: Callable[[Program], None]) -> None:
    async def program(client: triton.InferenceServerClient) -> None:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("pair", "1.0.0")
        assert (await client.get_server_metadata(as_json=True))["name"] == "inference-appliance"
        assert [i.name for i in (await client.get_model_metadata("pair")).inputs] == ["a", "b"]
        assert (await client.get_model_config("pair")).config.name == "pair"
        assert "pair" in {m.name for m in (await client.get_model_repository_index()).models}
        await client.load_model("pair")
        with fails("NOT_FOUND", "^Request for unknown model: 'nope'"):
            await client.get_model_metadata("nope")

    run(program)


def test_many_at_once(run: Callable[[Program], None]) -> None:
    async def program(client: triton.InferenceServerClient) -> None:
        async def counted() -> int:
            stats = await client.get_inference_statistics("pair", "1.0.0")
            return int(stats.model_stats[0].inference_stats.success.count)

        before = await counted()
        calls = (client.infer("pair", a_pair(n), model_version="1.0.0", request_id=str(n)) for n in range(40))
        results = await asyncio.gather(*calls)
        assert [r.as_numpy("out_a")[0, 0] for r in results] == list(range(40))
        assert [r.get_response().id for r in results] == [str(n) for n in range(40)]
        assert await counted() == before + 40

    run(program)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_options(run: Callable[[Program], None], algorithm: str) -> None:
    async def program(client: triton.InferenceServerClient) -> None:
        wanted = [sync_triton.InferRequestedOutput("out_b")]
        result = await client.infer(
            "pair", a_pair(), outputs=wanted, compression_algorithm=algorithm, priority=2, timeout=20_000_000
        )
        assert result.as_numpy("out_b").tolist() == [107, 92]
        assert result.as_numpy("out_a") is None
        with fails("INVALID_ARGUMENT", "'a' of model 'pair' has datatype 'FP64'", "expected FP32"):
            await client.infer("pair", [given("a", np.zeros((2, 3)), "FP64"), a_pair()[1]])

    run(program)


def test_timeout_and_cancellation(run: Callable[[Program], None]) -> None:
    async def program(client: triton.InferenceServerClient) -> None:
        x = [given("x", np.ones(2, np.float32), "FP32")]
        with fails("DEADLINE_EXCEEDED", "Deadline Exceeded"):
            await client.infer("slow", x, client_timeout=0.05)
        task = asyncio.create_task(client.infer("slow", x))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await client.infer("slow", x)).as_numpy("out_x").tolist() == [1, 1]

    run(program)


def test_a_stream_with_an_error_inside(run: Callable[[Program], None]) -> None:
    async def program(client: triton.InferenceServerClient) -> None:
        requests = one_by_one(
            {"model_name": "pair", "inputs": a_pair(1), "request_id": "1"},
            {"model_name": "nope", "inputs": a_pair(1), "request_id": "2"},
            {"model_name": "pair", "inputs": a_pair(3), "request_id": "3"},
        )
        outcomes = [outcome async for outcome in client.stream_infer(requests)]
        assert [error is None for _, error in outcomes] == [True, False, True]
        assert "unknown model: 'nope'" in outcomes[1][1].message()
        assert [outcomes[n][0].as_numpy("out_a")[0, 0] for n in (0, 2)] == [101, 103]

    run(program)


def test_a_text_in_pieces(run: Callable[[Program], None]) -> None:
    async def program(client: triton.InferenceServerClient) -> None:
        request = {"model_name": "says", "inputs": [prompt("h"), GREEDY]}
        pieces = []
        async for result, error in client.stream_infer(one_by_one(request)):
            assert error is None
            pieces.append(result.as_numpy("text_output")[0].decode())
        assert len(pieces) > 3
        assert "".join(pieces) == "elo wr\u00fcd."

    run(program)


def test_a_stream_that_is_cancelled(run: Callable[[Program], None], client_daemon: Daemon) -> None:
    before = settled_counters(client_daemon, "endless")

    async def program(client: triton.InferenceServerClient) -> None:
        stream = client.stream_infer(one_by_one({"model_name": "endless", "inputs": [prompt("a"), GREEDY]}))
        async for _, error in stream:
            assert error is None
            break
        stream.cancel()

    run(program)
    eventually_cancelled(client_daemon, "endless", before)
