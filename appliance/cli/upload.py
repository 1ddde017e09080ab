"""What `models add` sends: model.toml and the files that it names, as a stream of parts. The daemon judges them."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, NoReturn

from appliance import limits
from appliance.cli.exit_codes import CommandFailed, ExitCode
from appliance.pb.appliance.v1.admin_pb2 import AddModelRequest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MODEL_TOML = "model.toml"


class Upload(NamedTuple):
    """The files to send, each with its size in bytes as it was when looked at, and how many golden tests there are."""

    folder: Path
    sizes: dict[str, int]
    golden: int = 0

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes.values())


def plan(folder: Path) -> Upload:
    """Which files of the folder to send; raises CommandFailed (INVALID_INPUT) when they are not all there."""
    if not folder.is_dir():
        _refuse(f"{folder} is not a folder; give the one that holds {MODEL_TOML}")
    table = _read(folder / MODEL_TOML)
    golden = table.get("golden")
    sizes = {name: _size(folder, name) for name in dict.fromkeys((MODEL_TOML, *_named_files(table)))}
    return Upload(folder, sizes, len(golden) if isinstance(golden, list) else 0)


def _read(model_toml: Path) -> dict[str, Any]:
    try:
        if model_toml.stat().st_size > limits.model_toml_bytes_max:
            _refuse(f"{model_toml} is larger than {limits.model_toml_bytes_max} bytes")
        return tomllib.loads(model_toml.read_text(encoding="utf-8"))
    except FileNotFoundError:
        _refuse(f"{model_toml.parent} has no {MODEL_TOML}")
    except OSError as error:
        _refuse(f"{model_toml}: {error.strerror}")
    except UnicodeDecodeError:
        _refuse(f"{model_toml} is not UTF-8")
    except tomllib.TOMLDecodeError as error:
        _refuse(f"{model_toml} is not valid TOML: {error}")


def _named_files(table: dict[str, Any]) -> list[str]:
    """What ``files`` lists. Anything that is not as it should be is left for the daemon, which says it better."""
    files = table.get("files")
    entries = files if isinstance(files, list) else []
    return [e["path"] for e in entries if isinstance(e, dict) and isinstance(e.get("path"), str) and e["path"]]


def _size(folder: Path, name: str) -> int:
    """The file's size. A folder from elsewhere must not make us send other files of this machine: not even by a link."""
    path = folder / name
    try:
        inside = path.resolve(strict=True).is_relative_to(folder.resolve())
        if PurePosixPath(name).is_absolute() or not inside:
            _refuse(f"{MODEL_TOML} names {_quoted(name)}, which is outside of {folder}")
        if not path.is_file():
            _refuse(f"{path}, which {MODEL_TOML} names, is not a file")
        return path.stat().st_size
    except ValueError:
        _refuse(f"{MODEL_TOML} names a file with a zero byte in its name")
    except FileNotFoundError:
        _refuse(f"{path} is missing; {MODEL_TOML} names it")
    except OSError as error:
        _refuse(f"{path}: {error.strerror}")


def _quoted(name: str) -> str:
    """A name out of the file, quoted and cut for a message."""
    return f'"{name[:100]}"'


class Parts:
    """The request stream of AddModel. A file that cannot be read ends it and leaves the reason in ``failure``."""

    def __init__(self, upload: Upload, begin: AddModelRequest.Begin, sent: Callable[[int], None]) -> None:
        self._upload = upload
        self._begin = begin
        self._sent = sent
        self.failure: CommandFailed | None = None

    def __iter__(self) -> Iterator[AddModelRequest]:
        # gRPC consumes this in a thread of its own and would print what is raised there. The daemon refuses an upload
        # that ends with fewer bytes than were announced.
        try:
            yield AddModelRequest(begin=self._begin)
            for name, size in self._upload.sizes.items():
                yield AddModelRequest(file=AddModelRequest.FileBegin(path=name, size_bytes=size))
                yield from self._chunks(name, size)
        except OSError as error:
            self.failure = CommandFailed(ExitCode.INVALID_INPUT, f"{error.filename}: {error.strerror}")
        except CommandFailed as failure:
            self.failure = failure

    def _chunks(self, name: str, size: int) -> Iterator[AddModelRequest]:
        left = size
        with (self._upload.folder / name).open("rb") as stream:
            while chunk := stream.read(limits.upload_chunk_bytes):
                left -= len(chunk)
                if left < 0:
                    break
                yield AddModelRequest(chunk=chunk)
                self._sent(len(chunk))
        if left:
            raise CommandFailed(ExitCode.INVALID_INPUT, f"{self._upload.folder / name} changed while it was sent")


def _refuse(message: str) -> NoReturn:
    raise CommandFailed(ExitCode.INVALID_INPUT, message)
