"""The sync process as the supervisor drives it: a real process at the other end of a socket pair."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance import control, frames, limits, questions
from appliance.config import Config, PathsConfig
from appliance.osutil import child
from appliance.questions import Desired
from tests.support import model_folders as folders

DEADLINE_SECONDS = 30.0
UPLOAD = "0123456789abcdef" * 2


class Supervisor:
    """What the supervisor does with its sync process, in one thread and with a deadline."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.process, self.control = child.spawn("appliance.registry.sync_process")
        self.control.settimeout(DEADLINE_SECONDS)
        self._inbox = frames.Inbox(self.control)
        self._decoder: frames.Decoder[control.FromChild] = frames.Decoder(control.FromChild)
        self._number = 0
        self.beats = 0
        self.progress: list[questions.Progress] = []

    def send(self, message: control.Control) -> None:
        frames.send(self.control, message)

    def start(self) -> "Supervisor":
        self.send(control.StartSync(Config(paths=PathsConfig(state=str(self.state)))))
        return self

    def hear(self) -> control.FromChild:
        frame = self._inbox.next()
        assert frame is not None
        message = self._decoder.decode(frame[0])
        self.beats += isinstance(message, control.Beat)
        return message

    def ask(self, question: questions.Question) -> questions.Answer:
        self._number += 1
        self.send(control.Ask(self._number, question))
        self.progress.clear()
        while True:
            message = self.hear()
            if isinstance(message, control.Beat):
                continue
            assert isinstance(message, control.Told)
            assert message.number == self._number
            if not isinstance(message.answer, questions.Progress):
                return message.answer
            self.progress.append(message.answer)

    def upload(self, toml: str | None = None, upload: str = UPLOAD, **files: bytes) -> Path:
        return folders.make(self.state / "incoming" / upload, toml, **files)

    def wait(self) -> int:
        return self.process.wait(DEADLINE_SECONDS)

    def close(self) -> None:
        self.control.close()
        self.process.kill()
        self.process.wait()


Make = Callable[[], Supervisor]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Supervisor] = []

    def new() -> Supervisor:
        made.append(Supervisor(tmp_path / "state"))
        return made[-1]

    yield new
    for supervisor in made:
        supervisor.close()


@pytest.fixture
def supervisor(make: Make) -> Supervisor:
    started = make().start()
    assert started.ask(questions.AskCatalogue()) == questions.Catalogue()
    return started


def refusal(answer: questions.Answer) -> tuple[str, str]:
    assert isinstance(answer, questions.Refusal)
    return answer.code, answer.reason


def test_a_model_is_added_found_desired_and_removed(supervisor: Supervisor, make: Make) -> None:
    folder = supervisor.upload()
    answer = supervisor.ask(questions.AskAdd(UPLOAD))
    assert isinstance(answer, questions.VersionAnswer)
    model = answer.model
    assert (model.name, model.version) == ("press", "1.0.0")
    assert (Path(model.folder) / "model.onnx").read_bytes() == b"onnx bytes"
    assert not folder.exists()
    assert supervisor.progress[0].total == model.size_bytes

    assert supervisor.ask(questions.AskInspect("press")) == questions.VersionAnswer(model)
    assert supervisor.ask(questions.AskInspect("press", "1.0.0")) == questions.VersionAnswer(model)
    assert supervisor.ask(questions.AskDesire(Desired("press", "1.0.0"))) == questions.Nothing()
    catalogue = questions.Catalogue((model,), (Desired("press", "1.0.0"),))
    assert supervisor.ask(questions.AskCatalogue()) == catalogue
    assert refusal(supervisor.ask(questions.AskRemove("press", "1.0.0"))) == ("FAILED_PRECONDITION", "MODEL_IN_USE")

    supervisor.close()
    again = make().start()
    assert again.ask(questions.AskCatalogue()) == catalogue
    assert again.ask(questions.AskDesire(Desired("press"))) == questions.Nothing()
    assert again.ask(questions.AskRemove("press", "1.0.0")) == questions.Nothing()
    assert again.ask(questions.AskCatalogue()) == questions.Catalogue()
    assert list((again.state / "store/blobs/sha256").iterdir()) == []


def test_what_is_not_there_is_refused_with_a_near_name(supervisor: Supervisor) -> None:
    supervisor.upload()
    supervisor.ask(questions.AskAdd(UPLOAD))
    answer = supervisor.ask(questions.AskInspect("presss"))
    assert refusal(answer) == ("NOT_FOUND", "MODEL_UNKNOWN")
    assert isinstance(answer, questions.Refusal)
    assert "did you mean press?" in answer.message
    assert refusal(supervisor.ask(questions.AskInspect("press", "2.0.0"))) == ("NOT_FOUND", "VERSION_UNKNOWN")
    assert refusal(supervisor.ask(questions.AskRemove("press", "2.0.0"))) == ("NOT_FOUND", "VERSION_UNKNOWN")
    assert refusal(supervisor.ask(questions.AskDesire(Desired("nope", "1.0.0")))) == ("NOT_FOUND", "MODEL_UNKNOWN")
    assert refusal(supervisor.ask(questions.AskStatus())) == ("UNIMPLEMENTED", "UNIMPLEMENTED")


@pytest.mark.parametrize("upload", ["", "../../etc", "0" * 31, "0" * 33, "A" * 32, "0" * 32 + "\n", "." * 32])
def test_an_upload_id_that_could_be_a_path_is_refused(supervisor: Supervisor, upload: str) -> None:
    assert refusal(supervisor.ask(questions.AskAdd(upload))) == ("INVALID_ARGUMENT", "UPLOAD_ID")


def test_an_upload_that_is_not_there_or_a_link_is_refused(supervisor: Supervisor, tmp_path: Path) -> None:
    assert refusal(supervisor.ask(questions.AskAdd("0" * 32))) == ("NOT_FOUND", "UPLOAD_UNKNOWN")
    outside = folders.make(tmp_path / "outside")
    (supervisor.state / "incoming" / ("1" * 32)).symlink_to(outside)
    assert refusal(supervisor.ask(questions.AskAdd("1" * 32))) == ("NOT_FOUND", "UPLOAD_UNKNOWN")
    assert (outside / "model.toml").exists()


def test_a_refused_add_leaves_no_upload_and_no_blobs_and_the_process_serves_on(supervisor: Supervisor) -> None:
    first = supervisor.upload(folders.onnx_toml().replace("engine", "engin"))
    assert refusal(supervisor.ask(questions.AskAdd(UPLOAD))) == ("INVALID_ARGUMENT", "MODEL_TOML")
    assert not first.exists()
    second = supervisor.upload()
    (second / "model.onnx").unlink()
    assert refusal(supervisor.ask(questions.AskAdd(UPLOAD))) == ("INVALID_ARGUMENT", "MODEL_FILES")
    supervisor.upload()
    assert isinstance(supervisor.ask(questions.AskAdd(UPLOAD)), questions.VersionAnswer)
    blobs = set(os.listdir(supervisor.state / "store/blobs/sha256"))
    supervisor.upload(**{"model.onnx": b"other content"})
    assert refusal(supervisor.ask(questions.AskAdd(UPLOAD))) == ("ALREADY_EXISTS", "VERSION_EXISTS")
    assert set(os.listdir(supervisor.state / "store/blobs/sha256")) == blobs
    assert os.listdir(supervisor.state / "incoming") == []


def test_a_start_removes_what_earlier_runs_left(make: Make) -> None:
    supervisor = make()
    supervisor.upload()
    (supervisor.state / "incoming/stray").write_bytes(b"")
    blobs = supervisor.state / "store/blobs/sha256"
    blobs.mkdir(parents=True)
    (blobs / ("0" * 64)).write_bytes(b"orphan")
    supervisor.start()
    assert supervisor.ask(questions.AskCatalogue()) == questions.Catalogue()
    assert os.listdir(supervisor.state / "incoming") == []
    assert os.listdir(blobs) == []


def test_it_beats_while_idle_and_while_it_hashes(supervisor: Supervisor) -> None:
    started = time.monotonic()
    while supervisor.beats < 3:
        supervisor.hear()
    assert time.monotonic() - started < 3 * limits.beat_interval_ms / 1000 + 2
    file = supervisor.upload() / "model.onnx"
    os.truncate(file, 2**30)  # sparse: takes no room, and more than a second to hash
    before = supervisor.beats
    asked = time.monotonic()
    assert isinstance(supervisor.ask(questions.AskAdd(UPLOAD)), questions.VersionAnswer)
    seconds = time.monotonic() - asked
    assert supervisor.beats - before >= int(seconds / (limits.beat_interval_ms / 1000)) - 1
    done = [p.done for p in supervisor.progress]
    assert done == sorted(done)
    assert 1 <= len(done) <= seconds * 10 + 2


@pytest.mark.parametrize("when", ["before start", "idle", "hashing"])
def test_it_ends_when_the_supervisor_is_gone(make: Make, when: str) -> None:
    supervisor = make()
    if when != "before start":
        supervisor.start()
        supervisor.ask(questions.AskCatalogue())
    if when == "hashing":
        os.truncate(supervisor.upload() / "model.onnx", 64 * 2**30)
        supervisor.send(control.Ask(1, questions.AskAdd(UPLOAD)))
        while not isinstance(supervisor.hear(), control.Told):
            pass
    supervisor.control.close()
    assert supervisor.wait() == 0


def test_it_ends_on_drain_and_is_not_disturbed_by_what_is_not_for_it(supervisor: Supervisor) -> None:
    supervisor.send(control.Reload())
    supervisor.send(control.RouteTable())
    assert supervisor.ask(questions.AskCatalogue()) == questions.Catalogue()
    supervisor.process.send_signal(signal.SIGINT)
    assert supervisor.ask(questions.AskCatalogue()) == questions.Catalogue()
    supervisor.send(control.Drain())
    assert supervisor.wait() == 0


def test_a_first_message_that_is_not_start_sync_ends_it(make: Make) -> None:
    supervisor = make()
    supervisor.send(control.Drain())
    assert supervisor.wait() == 1


def test_a_state_folder_that_cannot_be_used_is_named_in_the_log(make: Make, capfd: pytest.CaptureFixture[str]) -> None:
    supervisor = make()
    supervisor.state.write_text("a file where the folder should be")
    supervisor.start()
    assert supervisor.wait() == 1
    said = capfd.readouterr().err
    assert f"the model store in {supervisor.state} cannot be opened" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("point", ["store.blob.link", "store.view.rename", "store.index.rename", "store.index.folder"])
def test_a_kill_in_an_add_leaves_old_or_new_for_the_next_process(
    make: Make, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    make().start().ask(questions.AskCatalogue())
    monkeypatch.setenv("APPLIANCE_FAULTS", f"{point}=kill")
    dying = make()
    dying.start()
    dying.ask(questions.AskCatalogue())
    dying.upload()
    with pytest.raises((frames.EndOfStream, ConnectionError)):
        dying.ask(questions.AskAdd(UPLOAD))
    assert dying.wait() == -signal.SIGKILL

    monkeypatch.delenv("APPLIANCE_FAULTS")
    again = make().start()
    catalogue = again.ask(questions.AskCatalogue())
    assert isinstance(catalogue, questions.Catalogue)
    assert [m.version for m in catalogue.models] == (["1.0.0"] if point == "store.index.folder" else [])
    again.upload()
    assert isinstance(again.ask(questions.AskAdd(UPLOAD)), questions.VersionAnswer)


def test_a_full_disk_is_refused_and_cleaned_up(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPLIANCE_FAULTS", "store.view.build=enospc@1")
    supervisor = make().start()
    supervisor.ask(questions.AskCatalogue())
    supervisor.upload()
    assert refusal(supervisor.ask(questions.AskAdd(UPLOAD))) == ("RESOURCE_EXHAUSTED", "DISK_FULL")
    assert os.listdir(supervisor.state / "store/blobs/sha256") == []
    supervisor.upload()
    assert isinstance(supervisor.ask(questions.AskAdd(UPLOAD)), questions.VersionAnswer)


def test_a_failing_disk_is_an_internal_error_without_details(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPLIANCE_FAULTS", "store.blob.link=eio@1")
    supervisor = make().start()
    supervisor.ask(questions.AskCatalogue())
    supervisor.upload()
    answer = supervisor.ask(questions.AskAdd(UPLOAD))
    assert answer == questions.Refusal("INTERNAL", "STORE_FAILED", "the model store failed; the daemon's log says why")
    supervisor.upload()
    assert isinstance(supervisor.ask(questions.AskAdd(UPLOAD)), questions.VersionAnswer)


def test_it_imports_no_heavy_library_and_stays_small(supervisor: Supervisor) -> None:
    status = Path(f"/proc/{supervisor.process.pid}/status").read_text()
    assert int(status.split("VmRSS:")[1].split()[0]) < 20 * 1024
    maps = Path(f"/proc/{supervisor.process.pid}/maps").read_text()
    for library in ("numpy", "grpc", "onnxruntime", "llama"):
        assert f"/{library}" not in maps
