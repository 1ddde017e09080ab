"""Prefixes on disk, through the real llama.cpp over a tiny model: what comes back, and all that must not."""

import hashlib
import logging
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_gguf import write_tiny_gguf

from appliance.engine.llama.cache import spill
from appliance.engine.llama.cache.spill import PrefixFiles
from appliance.engine.llama.cache.spill_format import START_BYTES, Header, seal, size_of
from appliance.engine.llama.context import Context, Decoded
from appliance.engine.llama.model import LlamaModel
from appliance.engine.llama.native import C
from appliance.model_spec import LlamaOptions
from appliance.osutil import faults

TOKENS = list(b"You are a careful assistant.")
DIGEST = "sha256:" + "1" * 64


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaModel]:
    loaded = LlamaModel(write_tiny_gguf(tmp_path_factory.mktemp("model") / "model.gguf"), LlamaOptions())
    yield loaded
    loaded.close()


@pytest.fixture
def make_context(model: LlamaModel) -> Iterator[Callable[..., Context]]:
    made: list[Context] = []

    def make(tokens: int = 256) -> Context:
        made.append(Context(model, tokens=tokens, batch_tokens=64, threads=1, sequences=4))
        return made[-1]

    yield make
    for context in made:
        context.close()


@pytest.fixture
def context(make_context: Callable[..., Context]) -> Context:
    return make_context()


def decode(context: Context, seq_id: int, tokens: list[int], position: int) -> np.ndarray:
    context.batch.clear()
    index = context.batch.add(tokens, position, seq_id, output_last=True)
    assert context.decode() is Decoded.DONE
    return context.logits(index).copy()


def last_position(context: Context, seq_id: int) -> int:
    return int(C.llama_memory_seq_pos_max(C.llama_get_memory(context.handle), seq_id))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "version"


@pytest.fixture
def file(folder: Path, make_context: Callable[..., Context]) -> Path:
    """A file with TOKENS' state, written by another context."""
    context = make_context()
    decode(context, 0, TOKENS, 0)
    assert PrefixFiles(folder, context, DIGEST).save(0, TOKENS)
    (path,) = folder.iterdir()
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_computed_anew(folder: Path, context: Context, *, digest: str = DIGEST) -> None:
    """Nothing is restored, the sequence is empty, and what is saved then can be restored."""
    files = PrefixFiles(folder, context, digest)
    assert not files.restore(1, TOKENS)
    assert last_position(context, 1) == -1
    decode(context, 1, TOKENS, 0)
    assert files.save(1, TOKENS)
    assert files.restore(2, TOKENS)


# --- what comes back -------------------------------------------------------------------------------------------------


def test_a_restored_prefix_is_as_good_as_a_computed_one(folder: Path, file: Path, context: Context) -> None:
    decode(context, 0, TOKENS, 0)
    expected = decode(context, 0, [65], len(TOKENS))
    assert PrefixFiles(folder, context, DIGEST).restore(3, TOKENS)
    assert last_position(context, 3) == len(TOKENS) - 1
    np.testing.assert_array_equal(decode(context, 3, [65], len(TOKENS)), expected)
    # The model does look at what came before, so an empty or wrong state would be seen.
    assert not np.allclose(decode(context, 2, [65], 0), expected)


def test_a_part_of_a_restored_prefix_can_be_shared(folder: Path, file: Path, context: Context) -> None:
    decode(context, 0, TOKENS[:7], 0)
    expected = decode(context, 0, [65], 7)
    assert PrefixFiles(folder, context, DIGEST).restore(3, TOKENS)
    context.share(3, 1, 0, 7)
    np.testing.assert_array_equal(decode(context, 1, [65], 7), expected)


def test_nobody_else_may_read_what_is_kept(folder: Path, file: Path) -> None:
    assert file.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_each_prefix_has_a_file_of_its_own(folder: Path, file: Path, context: Context) -> None:
    files = PrefixFiles(folder, context, DIGEST)
    decode(context, 0, TOKENS[:5], 0)
    assert files.save(0, TOKENS[:5])
    assert files.save(0, TOKENS[:5], "german")
    assert len(names(folder)) == 3
    assert files.restore(1, TOKENS[:5])
    assert last_position(context, 1) == 4
    assert files.restore(2, TOKENS)
    assert last_position(context, 2) == len(TOKENS) - 1


def test_old_prefixes_and_half_written_files_are_removed(folder: Path, file: Path, context: Context) -> None:
    files = PrefixFiles(folder, context, DIGEST)
    decode(context, 0, TOKENS[:5], 0)
    files.save(0, TOKENS[:5])
    (folder / ".x.prefix.17.tmp").write_bytes(b"half")
    (folder / "a.prefix.broken").write_bytes(b"to be looked at")
    files.prune([(TOKENS, "")])
    assert names(folder) == sorted([file.name, "a.prefix.broken"])


def test_a_folder_that_is_not_there(folder: Path, context: Context) -> None:
    files = PrefixFiles(folder, context, DIGEST)
    files.prune([])
    assert not files.restore(0, TOKENS)
    assert not folder.exists()


# --- what another wrote is replaced ----------------------------------------------------------------------------------


@pytest.mark.parametrize("changed", ["build", "model", "context_tokens", "format"])
def test_what_another_wrote_is_replaced(
    changed: str,
    folder: Path,
    file: Path,
    make_context: Callable[..., Context],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    context = make_context(512 if changed == "context_tokens" else 256)
    digest = "sha256:" + "2" * 64 if changed == "model" else DIGEST
    if changed == "build":
        monkeypatch.setattr(spill.llama_cpp, "__version__", "9.9.9")
    if changed == "format":
        data = bytearray(file.read_bytes())
        data[8:12] = struct.pack("<I", 2)
        file.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        assert_computed_anew(folder, context, digest=digest)
    assert f"has {changed} " in caplog.text
    assert names(folder) == [file.name]


@pytest.mark.parametrize(("tokens", "space"), [(TOKENS[:-1], ""), (TOKENS, "german")])
def test_the_file_of_another_prefix(tokens: list[int], space: str, folder: Path, file: Path, context: Context) -> None:
    files = PrefixFiles(folder, context, DIGEST)
    decode(context, 0, tokens, 0)
    files.save(0, tokens, space)
    (other,) = (path for path in folder.iterdir() if path != file)
    os.replace(other, file)
    assert_computed_anew(folder, context)


def rewritten(file: Path, context: Context, payload: bytes) -> None:
    """The file with another payload and a digest that is right: as only a program of ours could write it."""
    header = Header(spill.identity_of(context, DIGEST), "", tuple(TOKENS))
    size, begin = size_of(header, len(payload))
    data = bytearray(size)
    data[begin:] = payload
    seal(memoryview(data), header)
    file.write_bytes(data)


@pytest.mark.parametrize("cut", [0, 4, 8, 40, 1000])
def test_a_state_that_llama_cpp_refuses(cut: int, folder: Path, file: Path, context: Context) -> None:
    decode(context, 0, TOKENS, 0)
    size = C.llama_state_seq_get_size(context.handle, 0)
    rewritten(file, context, file.read_bytes()[-size:][:cut])
    assert_computed_anew(folder, context)


def test_a_state_of_fewer_tokens_than_it_says(folder: Path, file: Path, context: Context) -> None:
    files = PrefixFiles(folder, context, DIGEST)
    decode(context, 0, TOKENS[:9], 0)
    size = C.llama_state_seq_get_size(context.handle, 0)
    files.save(0, TOKENS[:9])
    (short,) = (path for path in folder.iterdir() if path != file)
    rewritten(file, context, short.read_bytes()[-size:])
    assert_computed_anew(folder, context)


def test_a_context_without_room(folder: Path, file: Path, context: Context) -> None:
    others = 0
    for seq_id in (2, 3):
        while context.tokens - others > len(TOKENS) // 2 and last_position(context, seq_id) < 119:
            decode(context, seq_id, [65] * 8, last_position(context, seq_id) + 1)
            others += 8
    assert not PrefixFiles(folder, context, DIGEST).restore(1, TOKENS)
    assert last_position(context, 1) == -1
    assert last_position(context, 2) == 119


# --- what is damaged is set aside ------------------------------------------------------------------------------------


def assert_set_aside(folder: Path, file: Path, context: Context) -> None:
    assert_computed_anew(folder, context)
    assert names(folder) == [file.name, f"{file.name}.broken"]


@pytest.mark.parametrize("part", ["magic", "digest", "header bytes", "payload bytes", "header", "payload", "last"])
@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit(part: str, bit: int, folder: Path, file: Path, context: Context) -> None:
    data = bytearray(file.read_bytes())
    offsets = {"magic": 0, "digest": 12, "header bytes": 44, "payload bytes": 48, "header": START_BYTES}
    data[offsets.get(part, len(data) - (1 if part == "last" else 500))] ^= 1 << bit
    file.write_bytes(data)
    assert_set_aside(folder, file, context)


@pytest.mark.parametrize("size", [0, 7, 8, START_BYTES - 1, START_BYTES, START_BYTES + 1, 300, -1])
def test_a_truncated_file(size: int, folder: Path, file: Path, context: Context) -> None:
    os.truncate(file, size if size >= 0 else file.stat().st_size + size)
    assert_set_aside(folder, file, context)


def test_bytes_behind_the_end(folder: Path, file: Path, context: Context) -> None:
    with file.open("ab") as end:
        end.write(b"x")
    assert_set_aside(folder, file, context)


@pytest.mark.parametrize(
    ("header", "payload"), [(2**31, 100), (2**32 - 1, 1), (100, 2**36), (100, 2**62), (100, 2**64 - 1)]
)
def test_sizes_out_of_bounds_are_never_read(
    header: int, payload: int, folder: Path, file: Path, context: Context
) -> None:
    data = bytearray(file.read_bytes()[:START_BYTES])
    struct.pack_into("<IQ", data, 44, header, payload)
    file.write_bytes(data)
    size = START_BYTES + header + payload
    if size < 2**40:
        os.truncate(file, size)  # a hole: takes no room
    assert_set_aside(folder, file, context)


@pytest.mark.parametrize("header", [b"", b"\xc1", b"\x80", b"\x93\x01\x02\x03"])
def test_a_header_that_is_none(header: bytes, folder: Path, file: Path, context: Context) -> None:
    body = struct.pack("<IQ", len(header), 3) + header + b"abc"
    data = b"IAPREFIX" + struct.pack("<I", 1) + hashlib.sha256(body).digest() + body
    file.write_bytes(data)
    assert_set_aside(folder, file, context)


def as_link(file: Path) -> None:
    target = file.with_name("elsewhere")
    file.rename(target)
    file.symlink_to(target.name)


def as_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


def as_loop(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)  # a link to itself


def as_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("become", [as_link, as_loop, as_pipe, as_folder, lambda file: file.chmod(0o620)])
def test_only_regular_files_of_our_own(
    become: Callable[[Path], None], folder: Path, file: Path, context: Context
) -> None:
    become(file)
    assert_computed_anew(folder, context)
    assert f"{file.name}.broken" in names(folder)


def test_a_file_of_somebody_else(folder: Path, file: Path, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = file.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert not PrefixFiles(folder, context, DIGEST).restore(1, TOKENS)
    assert names(folder) == [f"{file.name}.broken"]


# --- what cannot be kept ---------------------------------------------------------------------------------------------


@pytest.fixture
def armed() -> Iterator[None]:
    yield
    faults.arm("")


@pytest.mark.parametrize("point", ["write", "fsync", "rename"])
def test_a_full_disk_costs_nothing_but_the_file(
    point: str, folder: Path, file: Path, context: Context, armed: None, caplog: pytest.LogCaptureFixture
) -> None:
    before = file.read_bytes()
    files = PrefixFiles(folder, context, DIGEST)
    decode(context, 0, TOKENS, 0)
    faults.arm(f"prefix.{point}=enospc")
    assert not files.save(0, TOKENS)
    assert "No space left on device" in caplog.text
    assert names(folder) == [file.name]
    assert file.read_bytes() == before


def test_a_folder_that_cannot_be(tmp_path: Path, context: Context) -> None:
    (tmp_path / "file").write_bytes(b"")
    files = PrefixFiles(tmp_path / "file" / "cache", context, DIGEST)
    decode(context, 0, TOKENS, 0)
    assert not files.save(0, TOKENS)
    assert not files.restore(1, TOKENS)
    files.prune([])


@pytest.mark.parametrize("tokens", [TOKENS[:-1], [*TOKENS, 65], []])
def test_a_sequence_that_has_other_tokens_is_not_saved(tokens: list[int], folder: Path, context: Context) -> None:
    decode(context, 0, TOKENS, 0)
    assert not PrefixFiles(folder, context, DIGEST).save(0, tokens)
    assert not folder.exists()


def test_without_a_digest_nothing_is_kept(folder: Path, file: Path, context: Context) -> None:
    files = PrefixFiles(folder, context, "")
    decode(context, 0, TOKENS, 0)
    assert not files.save(0, TOKENS)
    assert not files.restore(1, TOKENS)
    assert names(folder) == [file.name]


@pytest.mark.parametrize(
    ("question", "answer"),
    [("llama_model_n_swa", 512), ("llama_model_is_recurrent", True), ("llama_model_is_hybrid", True)],
)
def test_models_whose_states_are_no_prefixes(
    question: str, answer: int, folder: Path, file: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(C, question, lambda _model: answer)
    assert not PrefixFiles(folder, context, DIGEST).restore(1, TOKENS)
