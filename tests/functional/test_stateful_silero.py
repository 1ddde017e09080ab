"""silero-vad as a stateful model through the real daemon: streams of windows against the network run by hand."""

import os
import queue
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
import tritonclient.grpc as triton
from daemon_process import Daemon
from rpc_failures import fails
from triton_calls import given
from tritonclient.utils import InferenceServerException

CHUNK, CONTEXT, WINDOWS = 512, 64, 20
SECONDS = 60.0
Windows = list[npt.NDArray[np.float32]]


# Forgets sequences after a second, and holds three.
QUICK = (
    ('name = "silero-vad"', 'name = "quick-vad"'),
    ("idle_seconds_max = 60.0", "idle_seconds_max = 1.0"),
    ("sequences_max = 1024", "sequences_max = 3"),
)
# As many sequences as a large site may have at once, and not one more.
CROWDED = (
    ('name = "silero-vad"', 'name = "crowded-vad"'),
    ("sequences_max = 1024", "sequences_max = 10000"),
)
# Waits for sixteen rows, so that they run together however fast the machine is.
PATIENT = (
    ('name = "silero-vad"', 'name = "patient-vad"'),
    ('batching = "on"', 'batching = "on"\nbatch_wait_us_max = 300000\nbatch_rows_preferred = [16]'),
)


def variant(folder: Path, target: Path, changes: tuple[tuple[str, str], ...]) -> Path:
    """The same model with another model.toml."""
    shutil.copytree(folder, target)
    text = (target / "model.toml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (target / "model.toml").write_text(text)
    return target


@pytest.fixture(scope="module")
def folder(demo_folder: Callable[[str], Path]) -> Path:
    return demo_folder("silero-vad")


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory(prefix="ia-") as name:
        made = Daemon(Path(name)).ready()
        try:
            made.add(folder)
            made.add(variant(folder, Path(name) / "quick", QUICK))
            made.add(variant(folder, Path(name) / "patient", PATIENT))
            made.add(variant(folder, Path(name) / "crowded", CROWDED))
            yield made
        finally:
            made.stop()
            print("\n".join(made.log))


@pytest.fixture
def client(running: Daemon) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(running.address) as made:
        yield made


def sound(seed: int) -> Windows:
    """Something between hum and noise, never twice the same."""
    dice = np.random.default_rng(seed)
    times = np.arange(WINDOWS * CHUNK) / 16_000
    wave = sum(np.sin(2 * np.pi * 120 * h * times + dice.uniform(0, 6)) / h for h in range(1, 20))
    noisy = 0.2 * wave * (1 + np.sin(2 * np.pi * 3 * times)) + dice.normal(0, 0.02, times.size)
    return list(noisy.astype(np.float32).reshape(WINDOWS, 1, CHUNK))


def by_hand(folder: Path, windows: Windows) -> list[float]:
    """The network alone, its state and the last samples handed on here."""
    session = ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    context, state = np.zeros((1, CONTEXT), np.float32), np.zeros((2, 1, 128), np.float32)
    answers = []
    for window in windows:
        feed = {"input": np.concatenate([context, window], 1), "state": state, "sr": np.array(16_000, np.int64)}
        output, state = session.run(["output", "stateN"], feed)
        context = window[:, -CONTEXT:]
        answers.append(float(output[0, 0]))
    return answers


def chunk(window: npt.NDArray[np.float32]) -> triton.InferInput:
    return given("chunk", window, "FP32")


def ask(client: Any, window: npt.NDArray[np.float32], model: str = "silero-vad", **options: Any) -> float:
    result = client.infer(model, [chunk(window)], **options)
    assert [o.name for o in result.get_response().outputs] == ["output"]
    return float(result.as_numpy("output")[0, 0])


def place(number: int) -> dict[str, bool]:
    return {"sequence_start": number == 0, "sequence_end": number == WINDOWS - 1}


@pytest.mark.parametrize("identity", [4711, "line 4"])
def test_a_stream_of_windows(client: triton.InferenceServerClient, folder: Path, identity: int | str) -> None:
    windows = sound(1)
    got = [ask(client, w, sequence_id=identity, **place(n)) for n, w in enumerate(windows)]
    np.testing.assert_allclose(got, by_hand(folder, windows), atol=1e-5)
    assert max(got) - min(got) > 0.01  # a network that heard nothing would pass
    with fails("INVALID_ARGUMENT", "begin it with sequence_start"):
        ask(client, windows[0], sequence_id=identity)


def test_interleaved_sequences(client: triton.InferenceServerClient, folder: Path) -> None:
    sounds = {7: sound(2), 8: sound(3)}
    got: dict[int, list[float]] = {7: [], 8: []}
    for number in range(WINDOWS):
        for identity, windows in sounds.items():
            got[identity].append(ask(client, windows[number], sequence_id=identity, **place(number)))
    for identity, windows in sounds.items():
        np.testing.assert_allclose(got[identity], by_hand(folder, windows), atol=1e-5)


def test_many_sequences_at_once(client: triton.InferenceServerClient, folder: Path, running: Daemon) -> None:
    """Every window of all sounds is in flight together, so their rows are computed together."""
    sounds = {identity: sound(100 + identity) for identity in range(1, 17)}
    got: dict[int, list[float]] = {identity: [] for identity in sounds}
    done: queue.Queue[tuple[int, Any, Any]] = queue.Queue()
    for number in range(WINDOWS):
        for identity, windows in sounds.items():
            client.async_infer(
                "patient-vad",
                [chunk(windows[number])],
                callback=lambda result, error, identity=identity: done.put((identity, result, error)),
                sequence_id=identity,
                **place(number),
            )
        for _ in sounds:
            identity, result, error = done.get(timeout=SECONDS)
            assert error is None
            got[identity].append(float(result.as_numpy("output")[0, 0]))
    for identity, windows in sounds.items():
        np.testing.assert_allclose(got[identity], by_hand(folder, windows), atol=1e-5)
    # Counters come with the engine's sign of life, once a second.
    running.eventually(lambda: max(running.model("patient-vad").counters.batch_sizes, default=0) > 1, SECONDS)


def test_sequences_on_one_stream(client: triton.InferenceServerClient, folder: Path) -> None:
    windows = sound(4)
    done: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(callback=lambda result, error: done.put((result, error)))
    for number, window in enumerate(windows):
        client.async_stream_infer("silero-vad", [chunk(window)], sequence_id="on a stream", **place(number))
    got = []
    for _ in windows:
        result, error = done.get(timeout=SECONDS)
        assert error is None
        got.append(float(result.as_numpy("output")[0, 0]))
    client.stop_stream()
    np.testing.assert_allclose(got, by_hand(folder, windows), atol=1e-5)


def test_two_clients_on_one_sequence(client: triton.InferenceServerClient, folder: Path, running: Daemon) -> None:
    """Over TCP and over the unix socket: two clients to the daemon."""
    sounds = sound(5), sound(6)
    with triton.InferenceServerClient(f"unix:{running.socket}") as local:
        ask(client, sounds[0][0], sequence_id=1, sequence_start=True)
        with fails("INVALID_ARGUMENT", "there is no sequence 1 of this client"):
            ask(local, sounds[1][0], sequence_id=1)
        got: list[list[float]] = [[], []]
        for number in range(WINDOWS):
            for at, caller in enumerate((client, local)):
                got[at].append(ask(caller, sounds[at][number], sequence_id=1, **place(number)))
    for at in (0, 1):
        np.testing.assert_allclose(got[at], by_hand(folder, sounds[at]), atol=1e-5)


def test_without_a_sequence_the_client_keeps_the_states(client: triton.InferenceServerClient, folder: Path) -> None:
    windows = sound(9)[:5]
    states = {"context": np.zeros((1, CONTEXT), np.float32), "state": np.zeros((2, 1, 128), np.float32)}
    got = []
    for window in windows:
        inputs = [chunk(window)]
        inputs += [given(name, array, "FP32") for name, array in states.items()]
        result = client.infer("silero-vad", inputs)
        states = {"context": result.as_numpy("next_context"), "state": result.as_numpy("stateN")}
        got.append(float(result.as_numpy("output")[0, 0]))
    np.testing.assert_allclose(got, by_hand(folder, windows), atol=1e-5)


def bad(**options: Any) -> Callable[[triton.InferenceServerClient], object]:
    return lambda client: ask(client, sound(1)[0], **options)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (bad(sequence_id=99), "there is no sequence 99 of this client"),
        (bad(sequence_id="nobody", sequence_end=True), "begin it with sequence_start"),
        (bad(), "lacks the input 'context'"),
        (bad(sequence_id="x" * 257, sequence_start=True), "257 characters, at most 256"),
    ],
)
def test_bad_calls(client: triton.InferenceServerClient, call: Callable[[Any], object], words: str) -> None:
    with fails("INVALID_ARGUMENT", words):
        call(client)


def test_what_clients_and_operators_are_told(client: triton.InferenceServerClient, running: Daemon) -> None:
    config = client.get_model_config("silero-vad").config
    facts = {key: parameter.string_value for key, parameter in config.parameters.items()}
    assert facts["sequences"] == "true"
    assert facts["output.output.unit"] == "probability"
    assert facts["output.output.threshold"] == "0.5"
    assert {i.name: i.optional for i in config.input} == {"chunk": False, "context": True, "state": True}
    shown = running.cli("models", "show", "silero-vad").stdout
    assert "that somebody speaks; unit probability; yes from 0.5 on" in " ".join(shown.split())


def test_idle_sequences_are_forgotten_and_make_room(client: triton.InferenceServerClient, running: Daemon) -> None:
    before = running.model("quick-vad").counters.sequences_expired
    for identity in (1, 2, 3):
        ask(client, sound(1)[0], "quick-vad", sequence_id=identity, sequence_start=True)
    with fails("RESOURCE_EXHAUSTED", "3 sequences live"):
        for identity in range(4, 100):  # should this box be so slow that one expires, the next is one too many
            ask(client, sound(1)[0], "quick-vad", sequence_id=identity, sequence_start=True)
    running.eventually(lambda: running.model("quick-vad").counters.sequences_expired >= before + 3, SECONDS)
    counters = running.model("quick-vad").counters
    assert counters.sequences == 0
    assert counters.sequence_bytes == 0
    with fails("INVALID_ARGUMENT", "was idle for more than 1 s"):
        ask(client, sound(1)[1], "quick-vad", sequence_id=1)
    ask(client, sound(1)[0], "quick-vad", sequence_id=4, sequence_start=True, sequence_end=True)


@pytest.mark.timeout(300)
def test_ten_thousand_sequences(client: triton.InferenceServerClient, running: Daemon) -> None:
    window = sound(1)[0]

    def of(identity: int, **options: Any) -> float:
        return ask(client, window, "crowded-vad", sequence_id=identity, **options)

    with ThreadPoolExecutor(32) as pool:
        starts = list(pool.map(lambda n: of(n, sequence_start=True), range(1, 10_001)))
        assert max(starts) - min(starts) < 1e-5
        running.eventually(lambda: running.model("crowded-vad").counters.sequences == 10_000, SECONDS)
        with fails("RESOURCE_EXHAUSTED", "10000 sequences live"):
            of(10_001, sequence_start=True)
        seconds = list(pool.map(of, (1, 5_000, 10_000)))
        assert max(seconds) - min(seconds) < 1e-5
        assert abs(seconds[0] - starts[0]) > 1e-4
    of(1, sequence_end=True)
    of(10_001, sequence_start=True, sequence_end=True)


def test_a_dead_engine_takes_its_sequences_with_it(client: triton.InferenceServerClient, running: Daemon) -> None:
    windows = sound(1)
    first = ask(client, windows[0], "quick-vad", sequence_id="a", sequence_start=True)
    pid = running.model("quick-vad").pid
    os.kill(pid, signal.SIGKILL)
    running.eventually(lambda: running.model("quick-vad").pid not in (pid, 0), SECONDS)
    with fails("INVALID_ARGUMENT", "there is no sequence 'a' of this client"):
        ask(client, windows[1], "quick-vad", sequence_id="a")
    again = ask(client, windows[0], "quick-vad", sequence_id="a", sequence_start=True)
    assert again == pytest.approx(first, abs=1e-6)


def test_calls_of_one_sequence_in_flight_at_once_are_all_answered(client: triton.InferenceServerClient) -> None:
    """In which order they arrive nobody knows; each must see a whole state, and none may be lost."""
    window = sound(1)[0]
    ask(client, window, sequence_id=77, sequence_start=True)
    with ThreadPoolExecutor(8) as pool:
        same = list(pool.map(lambda _: ask(client, window, sequence_id=77), range(24)))
    ask(client, window, sequence_id=78, sequence_start=True)
    alone = [ask(client, window, sequence_id=78) for _ in range(24)]
    np.testing.assert_allclose(sorted(same), sorted(alone), atol=1e-5)
    with pytest.raises(InferenceServerException):
        ask(client, window[:, :100], sequence_id=77)
    np.testing.assert_allclose(ask(client, window, sequence_id=77), ask(client, window, sequence_id=78), atol=1e-5)
