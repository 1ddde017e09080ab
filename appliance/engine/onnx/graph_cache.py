"""The optimised graph of an ONNX file on disk, for models whose load it shortens; README.md has the measurements.

Whether it does is tried once, at the first load: without the graph, then from it, in processor time. The verdict is kept
with it. A graph saved at the full level holds layouts for one processor (NCHWc), so its key names the processor too.
"""

import contextlib
import hashlib
import logging
import os
import platform
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec
import onnxruntime as ort

from appliance import events, limits
from appliance.engine.base import LoadOptions
from appliance.model_spec import ModelSpec
from appliance.osutil import durable

_log = logging.getLogger(__name__)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RECORD_BYTES_MAX = 4096
_PIECE_BYTES = 1024 * 1024
# Reading a graph and its digest costs 1.2 ms/MB (SHA-256, measured); a load that isn't several times that is all weights.
_NS_PER_BYTE_MIN = 3.5
# A gain below this drowns in what the start of a process takes.
_LOAD_NS_MIN = 4_000_000
_SHARE_MAX = 0.75


class Make(Protocol):
    """Makes a session of ``file``; ``save``: where the optimised graph is to be written."""

    def __call__(self, file: Path, optimise: bool = True, save: Path | None = None) -> Any: ...


class Record(msgspec.Struct, frozen=True):
    """What is known of a graph: its digest, "" when it doesn't pay, and processor time with and without it."""

    sha256: str = ""
    size: int = 0
    plain_us: int = 0
    cached_us: int = 0


def key(digest: str, name: str, optimization: str, *, runtime: str, processor: str) -> str:
    """What an optimised graph depends on; ``digest`` is of the version's manifest, ``name`` of its ONNX file."""
    parts = (digest, name, "cpu", optimization, runtime, processor)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def worth_trying(load_ns: int, size: int) -> bool:
    """Whether a load that took so long, of so many bytes, may be shorter from an optimised graph."""
    return size <= limits.graph_cache_bytes_max and load_ns >= max(_LOAD_NS_MIN, _NS_PER_BYTE_MIN * size)


def pays(plain_ns: int, cached_ns: int) -> bool:
    """Whether the trial was a success."""
    return cached_ns <= _SHARE_MAX * plain_ns


def cached(
    path: Path,
    name: str,
    spec: ModelSpec,
    options: LoadOptions,
    make: Make,
    processor: Callable[[], str] | None = None,
) -> Any:
    """The session of ``path``, from its optimised graph where there is an intact one that pays.

    Raises only what ``make(path)`` raises.
    """
    # The optimised graph would name the same external data, but lies in another folder.
    external = any(f.role == "data" for f in spec.files)
    if external or spec.onnx.optimization == "off" or not (options.cache_dir and options.digest):
        return make(path)
    runtime = f"{ort.__version__} {ort.get_build_info()}"
    told = (processor or processor_name)()
    shelf = Shelf(
        Path(options.cache_dir) / "graphs",
        hashlib.sha256(name.encode()).hexdigest()[:8],
        key(options.digest, name, spec.onnx.optimization, runtime=runtime, processor=told),
    )
    record = shelf.record()
    if record is not None and record.sha256:
        session = _from_shelf(shelf, record, name, make)
        if session is not None:
            return session
        record = None
    made: list[Any] = []
    took = _thread_ns(lambda: made.append(make(path)))
    if record is None and worth_trying(took, path.stat().st_size):
        try:
            shelf.try_out(path, took, make)
        except Exception as error:  # a full disk, or whatever the runtime raises: it is only a cache
            _log.warning("the optimised graph of %s can't be kept: %s", name, error, extra=events.ENGINE_NO_CACHE.of())
    return made[0]


def _from_shelf(shelf: "Shelf", record: Record, name: str, make: Make) -> Any:
    graph = shelf.graph(record)
    if graph is not None:
        try:
            return make(graph, optimise=False)
        except Exception as error:  # intact, and yet: made by a runtime that wrote what it can't read
            _log.warning("the optimised graph of %s does not load: %s", name, error, extra=events.ENGINE_NO_CACHE.of())
    _log.warning(
        "the optimised graph of %s is damaged: set aside, and made anew", name, extra=events.ENGINE_NO_CACHE.of()
    )
    shelf.set_aside(record)
    return None


class Shelf:
    """The files of one ONNX file's graph in ``folder``: KEY.json says what KEY-DIGEST.onnx must be."""

    def __init__(self, folder: Path, stem: str, key: str) -> None:
        self._folder = folder
        self._stem = stem
        self._base = f"{stem}-{key}"
        self._record = folder / f"{self._base}.json"

    def _graph(self, sha256: str) -> Path:
        # By its digest: two instances of a model may be here at once, and graphs need not come out the same.
        return self._folder / f"{self._base}-{sha256[:32]}.onnx"

    def record(self) -> Record | None:
        """What was found out before; None when nothing was, or it can't be read."""
        try:
            with _open(self._record) as file:
                record = msgspec.json.decode(file.read(_RECORD_BYTES_MAX), type=Record)
        except (OSError, ValueError):
            return None
        return record if not record.sha256 or _SHA256.fullmatch(record.sha256) else None

    def graph(self, record: Record) -> Path | None:
        """The graph's path when all its bytes are as they were written."""
        path = self._graph(record.sha256)
        try:
            with _open(path) as file:
                if os.fstat(file.fileno()).st_size == record.size and _digest(file) == record.sha256:
                    return path
        except OSError:
            pass
        return None

    def try_out(self, source: Path, plain_ns: int, make: Make) -> None:
        """Makes the graph, loads from it, and keeps it if that pays; else keeps that it doesn't."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temp = durable.temp_beside(self._folder / f"{self._base}.onnx")
        try:
            make(source, save=temp)
            record, path = self._put(temp)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temp.unlink()
        # The first load of a process pays for more than its model.
        plain_ns = min(plain_ns, _thread_ns(lambda: make(source)))
        cached_ns = _thread_ns(lambda: self.graph(record) and make(path, optimise=False))
        good = pays(plain_ns, cached_ns)
        if not good:
            path.unlink(missing_ok=True)
        record = Record(
            sha256=record.sha256 if good else "",
            size=record.size,
            plain_us=plain_ns // 1000,
            cached_us=cached_ns // 1000,
        )
        durable.write(self._record, msgspec.json.encode(record), mode=0o600)
        self._tidy(path.name)

    def _put(self, temp: Path) -> tuple[Record, Path]:
        with _open(temp) as file:
            os.fchmod(file.fileno(), 0o600)
            record = Record(sha256=_digest(file), size=os.fstat(file.fileno()).st_size)
            os.fsync(file.fileno())
        path = self._graph(record.sha256)
        durable.rename(temp, path)
        return record, path

    def _tidy(self, graph: str) -> None:
        """Removes graphs of this file that another processor or release made, and what a crash left half-written."""
        for entry in os.scandir(self._folder):
            ours = entry.name.startswith(f"{self._stem}-") and entry.name not in (graph, self._record.name)
            stale = durable.is_temp(entry.name) and time.time() - entry.stat(follow_symlinks=False).st_mtime > 3600
            if (ours and not entry.name.endswith(".broken")) or stale:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)

    def set_aside(self, record: Record) -> None:
        """For a person to look at; only the last one, since a failing disk makes many."""
        for path in (self._graph(record.sha256), self._record):
            with contextlib.suppress(OSError):
                os.replace(path, self._folder / f"{self._stem}{path.suffix}.broken")


@contextlib.contextmanager
def _open(path: Path) -> Any:
    """The regular file, for reading; OSError for anything else in its place."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(0, "not a regular file")
        yield file


def _thread_ns(work: Callable[[], object]) -> int:
    """Processor time of ``work``: what others do meanwhile must not decide."""
    began = time.thread_time_ns()
    work()
    return time.thread_time_ns() - began


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while piece := file.read(_PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The first processor's maker, model and features; those of one machine are alike in what matters here."""
    x86 = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")
    arm = ("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features")
    lines = [platform.machine()]
    with contextlib.suppress(OSError), cpuinfo.open() as file:
        for line in file:  # up to the first empty one: a machine has hundreds of processors
            if not line.strip():
                break
            if line.partition(":")[0].strip() in (*x86, *arm):
                lines.append(line.strip())
    return "\n".join(lines)
