"""System shared memory through the real daemon with tritonclient, unmodified: two front-ends, good and bad clients."""

import contextlib
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import client_models
import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.utils.shared_memory as shm
from daemon_process import DEADLINE, Daemon
from rpc_failures import fails
from running import add, proc_status, running
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

CONFIG = "[server]\naddress = '127.0.0.1:0'\nfront_ends = 2\nshared_memory = true\n"
CLIENTS = 8
SIZE = 1 << 20
CHANNEL = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """ "echo": FP32 [-1] and BYTES [-1], either may be left out; "slow": the same, 300 ms a call."""
    folder = tmp_path_factory.mktemp("models")
    tensors = [
        {"name": "x", "optional": True},
        {"name": "s", "datatype": "BYTES", "optional": True},
    ]
    with running(config=CONFIG) as daemon:
        for name, delay in (("echo", 0), ("slow", 300)):
            add(daemon, client_models.fake(folder, name, tensors=tensors, delay_ms=delay))
        yield daemon


@pytest.fixture
def clients(box: Daemon) -> Iterator[list[triton.InferenceServerClient]]:
    """Connections of their own: the kernel spreads them over the front-ends."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(triton.InferenceServerClient(box.address, channel_args=CHANNEL)) for _ in range(CLIENTS)
        ]


@pytest.fixture
def client(clients: list[triton.InferenceServerClient]) -> Iterator[triton.InferenceServerClient]:
    yield clients[0]
    clients[0].unregister_system_shared_memory()


class Region:
    """A client's: made, registered, looked into."""

    def __init__(self, client: triton.InferenceServerClient, size: int = SIZE, register: bool = True) -> None:
        self.name = f"region-{uuid.uuid4().hex[:8]}"
        self.key = f"/{self.name}"
        self.handle = shm.create_shared_memory_region(self.name, self.key, size)
        if register:
            client.register_system_shared_memory(self.name, self.key, size)

    @property
    def path(self) -> str:
        return f"/dev/shm{self.key}"

    def put(self, array: np.ndarray, offset: int = 0) -> None:
        shm.set_shared_memory_region(self.handle, [array], offset)

    def get(self, count: int, offset: int = 0) -> np.ndarray:
        return shm.get_contents_as_numpy(self.handle, np.float32, [count], offset).copy()

    def destroy(self) -> None:
        # A file that is gone already is what some tests are about.
        with contextlib.suppress(Exception):
            shm.destroy_shared_memory_region(self.handle)


@pytest.fixture
def region(client: triton.InferenceServerClient) -> Iterator[Callable[..., Region]]:
    made: list[Region] = []

    def make(size: int = SIZE, register: bool = True) -> Region:
        made.append(Region(client, size, register))
        return made[-1]

    yield make
    for each in made:
        each.destroy()


def placed_input(region: Region, count: int, offset: int = 0) -> triton.InferInput:
    tensor = triton.InferInput("x", [count], "FP32")
    tensor.set_shared_memory(region.name, 4 * count, offset)
    return tensor


def placed_output(region: Region, nbytes: int, offset: int = 0) -> triton.InferRequestedOutput:
    output = triton.InferRequestedOutput("out_x")
    output.set_shared_memory(region.name, nbytes, offset)
    return output


def infer(client: triton.InferenceServerClient, region: Region, count: int, model: str = "echo") -> triton.InferResult:
    """From the region's beginning to its second half."""
    outputs = [placed_output(region, 4 * count, SIZE // 2)]
    return client.infer(model, [placed_input(region, count)], outputs=outputs, client_timeout=DEADLINE)


def test_all_front_ends_know_a_region_as_soon_as_one_was_told(
    clients: list[triton.InferenceServerClient], client: triton.InferenceServerClient, region: Callable[..., Region]
) -> None:
    made = region()
    for number, each in enumerate(clients):
        data = np.arange(1000, dtype=np.float32) + number
        made.put(data)
        result = infer(each, made, 1000)
        assert np.array_equal(made.get(1000, SIZE // 2), data)
        output = result.get_output("out_x")
        assert (output.datatype, list(output.shape)) == ("FP32", [1000])
        assert output.parameters["shared_memory_region"].string_param == made.name
        assert list(each.get_system_shared_memory_status().regions) == [made.name]
    client.unregister_system_shared_memory(made.name)
    for each in clients:
        assert not each.get_system_shared_memory_status().regions
        with fails("NOT_FOUND", "Unable to find shared memory region"):
            infer(each, made, 10)


def test_input_there_and_output_in_the_answer(
    client: triton.InferenceServerClient, region: Callable[..., Region]
) -> None:
    made = region()
    data = np.random.default_rng(1).random(150_000, dtype=np.float32)
    made.put(data)
    result = client.infer("echo", [placed_input(made, 150_000)], client_timeout=DEADLINE)
    assert np.array_equal(result.as_numpy("out_x"), data)


def test_input_in_the_request_and_output_there(
    client: triton.InferenceServerClient, region: Callable[..., Region]
) -> None:
    made = region()
    data = np.random.default_rng(2).random(150_000, dtype=np.float32)
    tensor = triton.InferInput("x", [150_000], "FP32")
    tensor.set_data_from_numpy(data)
    client.infer("echo", [tensor], outputs=[placed_output(made, SIZE)], client_timeout=DEADLINE)
    assert np.array_equal(made.get(150_000), data)


def test_an_output_behind_one_in_shared_memory_is_found(
    client: triton.InferenceServerClient, region: Callable[..., Region]
) -> None:
    made = region()
    made.put(np.ones(10, np.float32))
    texts = triton.InferInput("s", [2], "BYTES")
    texts.set_data_from_numpy(np.array([b"one", b""], dtype=np.object_))
    outputs = [placed_output(made, 40, 4096), triton.InferRequestedOutput("out_s")]
    result = client.infer("echo", [placed_input(made, 10), texts], outputs=outputs, client_timeout=DEADLINE)
    assert list(result.as_numpy("out_s")) == [b"one", b""]
    assert np.array_equal(made.get(10, 4096), np.ones(10))


def test_strings(client: triton.InferenceServerClient, region: Callable[..., Region]) -> None:
    made = region()
    packed = serialize_byte_tensor(np.array([b"hello", b"", "wörld".encode()], dtype=np.object_))
    shm.set_shared_memory_region(made.handle, [packed])
    size = len(packed.item())
    tensor = triton.InferInput("s", [3], "BYTES")
    tensor.set_shared_memory(made.name, size)
    output = triton.InferRequestedOutput("out_s")
    output.set_shared_memory(made.name, SIZE // 2, SIZE // 2)
    client.infer("echo", [tensor], outputs=[output], client_timeout=DEADLINE)
    got = shm.get_contents_as_numpy(made.handle, np.object_, [3], SIZE // 2)
    assert list(got) == [b"hello", b"", "wörld".encode()]
    # Bytes that are no strings are the engine's to find: the front-end has not seen them.
    made.put(np.full(10, 2**31 - 1, np.int32))
    with fails("INVALID_ARGUMENT", "'s'"):
        client.infer("echo", [tensor], client_timeout=DEADLINE)


def test_streams(client: triton.InferenceServerClient, region: Callable[..., Region]) -> None:
    made = region()
    made.put(np.arange(100, dtype=np.float32))
    got: list[triton.InferResult | InferenceServerException] = []
    client.start_stream(lambda result, error: got.append(error or result))
    for offset in (0, SIZE, 4):
        outputs = [placed_output(made, 40, 4096 + offset // 4 * 40)]
        client.async_stream_infer("echo", [placed_input(made, 10, offset)], outputs=outputs)
    client.stop_stream()
    assert [isinstance(each, InferenceServerException) for each in got] == [False, True, False]
    assert np.array_equal(made.get(10, 4096), np.arange(10))
    assert np.array_equal(made.get(10, 4136), np.arange(1, 11))


def test_a_region_that_shrinks_costs_only_its_calls(
    box: Daemon, client: triton.InferenceServerClient, region: Callable[..., Region]
) -> None:
    made, engine = region(), box.model("echo").pid
    infer(client, made, 100)
    os.truncate(made.path, 4096)
    with fails("FAILED_PRECONDITION", "which has shrunk"):
        infer(client, made, 100)
    with fails("FAILED_PRECONDITION", "which has shrunk"):
        client.infer("echo", [placed_input(made, 2000)], client_timeout=DEADLINE)
    client.infer("echo", [placed_input(made, 100)], client_timeout=DEADLINE)
    os.truncate(made.path, SIZE)
    infer(client, made, 100)
    assert box.model("echo").pid == engine


def test_a_region_that_shrinks_while_the_model_computes(
    box: Daemon, client: triton.InferenceServerClient, region: Callable[..., Region]
) -> None:
    made, engine, before = region(), box.model("slow").pid, box.model("slow").counters.success_count
    made.put(np.ones(100, np.float32))
    outcomes: list[InferenceServerException | None] = []
    client.async_infer(
        "slow",
        [placed_input(made, 100)],
        callback=lambda result, error: outcomes.append(error),
        outputs=[placed_output(made, 400, SIZE // 2)],
    )
    # The engine has it; before its output comes, the file is empty.
    box.eventually(lambda: shared_files_of(engine, made.key) == 1)
    os.truncate(made.path, 0)
    box.eventually(lambda: bool(outcomes))
    assert outcomes[0] is not None
    assert outcomes[0].status() == "StatusCode.FAILED_PRECONDITION"
    assert os.stat(made.path).st_size == 0
    assert box.model("slow").pid == engine
    assert box.model("slow").counters.success_count >= before


def test_a_region_without_a_name_is_good_until_it_is_unregistered(
    clients: list[triton.InferenceServerClient], client: triton.InferenceServerClient, region: Callable[..., Region]
) -> None:
    made = region()
    os.unlink(made.path)
    made.put(np.ones(10, np.float32))
    for each in clients:
        infer(each, made, 10)
    client.unregister_system_shared_memory(made.name)
    with fails("NOT_FOUND", "there is no shared memory with the key"):
        client.register_system_shared_memory(made.name, made.key, SIZE)


@pytest.mark.parametrize(
    ("key", "size", "offset", "status", "words"),
    [
        ("/nobody-made-this", 10, 0, "NOT_FOUND", "no shared memory with the key"),
        ("/../../etc/passwd", 10, 0, "INVALID_ARGUMENT", "no key of shared memory"),
        ("", 10, 0, "INVALID_ARGUMENT", "no key of shared memory"),
        (None, 0, 0, "INVALID_ARGUMENT", "is to be 0 bytes"),
        (None, SIZE + 1, 0, "INVALID_ARGUMENT", f"which has {SIZE} bytes"),
        (None, 1, SIZE, "INVALID_ARGUMENT", f"which has {SIZE} bytes"),
        (None, 2, 2**64 - 1, "INVALID_ARGUMENT", f"which has {SIZE} bytes"),
        (None, 2**64 - 1, 2, "INVALID_ARGUMENT", f"which has {SIZE} bytes"),
    ],
)
def test_what_cannot_be_registered(
    client: triton.InferenceServerClient,
    region: Callable[..., Region],
    key: str | None,
    size: int,
    offset: int,
    status: str,
    words: str,
) -> None:
    made = region(register=False)
    with fails(status, words):
        client.register_system_shared_memory("bad", made.key if key is None else key, size, offset)
    assert not client.get_system_shared_memory_status().regions


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_memory_of_others(client: triton.InferenceServerClient, region: Callable[..., Region]) -> None:
    made = region(register=False)
    os.chown(made.path, -1, 54_321)
    with fails("PERMISSION_DENIED", "let its file belong to one of its groups"):
        client.register_system_shared_memory("theirs", made.key, SIZE)


def test_names(
    clients: list[triton.InferenceServerClient], client: triton.InferenceServerClient, region: Callable[..., Region]
) -> None:
    made = region()
    for each in clients:
        with fails("ALREADY_EXISTS", "is registered already"):
            each.register_system_shared_memory(made.name, made.key, SIZE)
    client.register_system_shared_memory("also", made.key, SIZE // 2, SIZE // 4)  # overlaps, which is fine
    status = client.get_system_shared_memory_status("also").regions["also"]
    assert (status.key, status.offset, status.byte_size) == (made.key, SIZE // 4, SIZE // 2)
    with fails("NOT_FOUND", "Unable to find system shared memory region"):
        client.get_system_shared_memory_status("nobody")
    client.unregister_system_shared_memory("nobody")
    client.unregister_system_shared_memory()
    assert not clients[-1].get_system_shared_memory_status().regions


@pytest.mark.parametrize(
    ("offset", "nbytes", "words"),
    [
        (SIZE, 40, "which has 1048576 bytes"),
        (SIZE - 39, 40, "which has 1048576 bytes"),
        (2**62, 40, "which has 1048576 bytes"),
        (-4, 40, "'shared_memory_offset'"),
        (0, 0, "'shared_memory_byte_size'"),
        (0, -40, "'shared_memory_byte_size'"),
        (0, 36, "holds 36 bytes, expected 40"),
        (0, 44, "holds 44 bytes, expected 40"),
    ],
)
def test_inputs_that_are_not_there(
    client: triton.InferenceServerClient, region: Callable[..., Region], offset: int, nbytes: int, words: str
) -> None:
    made = region()
    tensor = triton.InferInput("x", [10], "FP32")
    tensor.set_shared_memory(made.name, nbytes, offset)
    with fails("INVALID_ARGUMENT", words):
        client.infer("echo", [tensor], client_timeout=DEADLINE)


@pytest.mark.parametrize(
    ("offset", "nbytes", "words"),
    [
        (SIZE - 4, 40, "output 'out_x' is to have 40 bytes"),
        (4096, 36, "output 'out_x' has 40 bytes, the request gives it 36"),
        (39, 40, "input 'x' and output 'out_x' of this request overlap"),
        (0, 40, "of this request overlap"),
    ],
)
def test_outputs_without_a_place(
    client: triton.InferenceServerClient, region: Callable[..., Region], offset: int, nbytes: int, words: str
) -> None:
    made = region()
    with fails("INVALID_ARGUMENT", words):
        outputs = [placed_output(made, nbytes, offset)]
        client.infer("echo", [placed_input(made, 10)], outputs=outputs, client_timeout=DEADLINE)


def shared_files_of(pid: int, key: str) -> int:
    """How many descriptors of the region a process has."""
    count = 0
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(fd).startswith(f"/dev/shm{key}")
    return count


def test_everybody_lets_go_of_what_is_unregistered(
    box: Daemon,
    clients: list[triton.InferenceServerClient],
    client: triton.InferenceServerClient,
    region: Callable[..., Region],
) -> None:
    made, engine = region(), box.model("echo").pid
    front_ends = [box.process_of(f"front-end {n}") for n in range(2)]
    for each in clients:
        infer(each, made, 10)
    assert [shared_files_of(pid, made.key) for pid in front_ends] == [1, 1]
    assert shared_files_of(engine, made.key) >= 1
    client.unregister_system_shared_memory(made.name)
    assert [shared_files_of(pid, made.key) for pid in front_ends] == [0, 0]
    box.eventually(lambda: shared_files_of(engine, made.key) == 0)


@pytest.mark.parametrize("number", [0, 1])
def test_a_front_end_that_starts_anew_knows_the_regions(
    box: Daemon, region: Callable[..., Region], number: int
) -> None:
    kept, lost = region(), region()
    os.unlink(lost.path)
    victim = box.process_of(f"front-end {number}")
    os.kill(victim, signal.SIGKILL)
    box.eventually(lambda: not proc_status(victim))
    box.eventually(lambda: pid_of(box, number) not in (0, victim))
    outcomes = set()

    def both_have_answered() -> bool:
        with triton.InferenceServerClient(box.address, channel_args=CHANNEL) as fresh:
            infer(fresh, kept, 10)
            assert len(fresh.get_system_shared_memory_status().regions) == 2
            try:
                infer(fresh, lost, 10)
                outcomes.add("")
            except InferenceServerException as error:
                outcomes.add(f"{error.status()} {'register it again' in error.message()}")
        return len(outcomes) == 2

    # The other front-end has the file open still.
    box.eventually(both_have_answered)
    assert outcomes == {"", "StatusCode.FAILED_PRECONDITION True"}


def pid_of(box: Daemon, number: int) -> int:
    """0 while nobody answers on the unix socket, which is number 0's, or while the process has not said that it listens."""
    try:
        return box.process_of(f"front-end {number}")
    except (grpc.RpcError, StopIteration):
        return 0


def test_an_engine_that_starts_anew_gets_the_regions_again(
    box: Daemon, client: triton.InferenceServerClient, region: Callable[..., Region]
) -> None:
    made, engine = region(), box.model("echo").pid
    infer(client, made, 10)
    os.kill(engine, signal.SIGKILL)
    box.eventually(lambda: box.model("echo").pid not in (0, engine))

    def works() -> bool:
        with contextlib.suppress(InferenceServerException):
            return infer(client, made, 10) is not None
        return False

    box.eventually(works)


def test_large_tensors_through_the_request_are_whole(client: triton.InferenceServerClient) -> None:
    """The arena's way, there and back, larger and smaller again."""
    random = np.random.default_rng(3)
    for count in (20_000, 150_000, 1_500_000, 16, 150_000, 4_000_000):
        data = random.random(count, dtype=np.float32)
        tensor = triton.InferInput("x", [count], "FP32")
        tensor.set_data_from_numpy(data)
        for _ in range(3):
            assert np.array_equal(client.infer("echo", [tensor]).as_numpy("out_x"), data)
