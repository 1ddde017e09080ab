"""Language models of other kinds, from the client to llama.cpp: with an adapter, a draft model, a pinned prefix; a reranker."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import client_models
import grpc
import pytest
from daemon_process import DEADLINE, Daemon
from rpc_failures import fails
from tiny_gguf import write_tiny_gguf
from tiny_lora import write_tiny_lora
from tiny_reranker import write_tiny_reranker

from appliance.pb.appliance.v1 import generation_pb2 as pb
from appliance.pb.appliance.v1 import generation_pb2_grpc

SYSTEM = "you are a clerk who files what he is given"


def with_file(folder: Path, path: str, role: str) -> None:
    """Lists one more file in a folder's model.toml."""
    toml = folder / "model.toml"
    listed = f'[[files]]\npath = "{path}"\nrole = "{role}"\n\n[card]'
    toml.write_text(toml.read_text().replace("[card]", listed, 1))


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory(prefix="ia-") as name, tempfile.TemporaryDirectory() as folders:
        root = Path(folders)
        running = Daemon(Path(name)).ready()
        try:
            poet = client_models.tiny(root, "poet", 'adapters = { verse = "verse.gguf" }', script=b"abcdef")
            write_tiny_lora(poet / "verse.gguf", poet / "model.gguf", b"axyz")
            with_file(poet, "verse.gguf", "adapter")
            running.add(poet)
            drafted = client_models.tiny(root, "drafted", 'speculation = "draft"', script=b"abcdefghij", loop=True)
            write_tiny_gguf(drafted / "draft.gguf", script=b"abcdefghij", loop=True)
            with_file(drafted, "draft.gguf", "draft")
            running.add(drafted)
            running.add(client_models.tiny(root, "clerk", f'pinned = [{{ system = "{SYSTEM}" }}]', context=512))
            judge = client_models.tiny(root, "judge")
            write_tiny_reranker(judge / "model.gguf")
            running.add(judge)
            yield running
        finally:
            running.stop()
            print("\n".join(running.log))


@pytest.fixture(scope="module")
def stub(daemon: Daemon) -> Iterator[generation_pb2_grpc.GenerationStub]:
    with grpc.insecure_channel(daemon.address) as channel:
        yield generation_pb2_grpc.GenerationStub(channel)


def answer(stub: generation_pb2_grpc.GenerationStub, model: str, **options: object) -> list[pb.GenerateResponse]:
    asked = pb.Options(sampling=pb.Sampling(temperature=0), **options)  # type: ignore[arg-type]
    return list(stub.Generate(pb.GenerateRequest(model=model, prompt="a", options=asked), timeout=DEADLINE))


def text_of(answers: list[pb.GenerateResponse]) -> str:
    return "".join(piece.text for piece in answers)


def test_an_adapter_is_chosen_by_the_call(stub: generation_pb2_grpc.GenerationStub) -> None:
    assert text_of(answer(stub, "poet")) == "bcdef"
    assert text_of(answer(stub, "poet", adapter="verse")) == "xyz"
    assert text_of(answer(stub, "poet")) == "bcdef"
    with fails("INVALID_ARGUMENT", "verse"):
        answer(stub, "poet", adapter="prose")


def test_a_draft_model_changes_nothing_but_the_steps(stub: generation_pb2_grpc.GenerationStub) -> None:
    answers = answer(stub, "drafted", max_tokens=60)
    assert text_of(answers) == ("bcdefghija" * 6)
    done = answers[-1].finished
    assert done.usage.completion_tokens == 60
    assert 0 < done.accepted_tokens <= done.drafted_tokens


def test_a_pinned_prefix_is_there_for_the_first_call_and_after_a_restart(
    daemon: Daemon, stub: generation_pb2_grpc.GenerationStub
) -> None:
    messages = [pb.ChatMessage(role="system", content=SYSTEM), pb.ChatMessage(role="user", content="file this")]
    request = pb.ChatRequest(model="clerk", messages=messages, options=pb.Options(max_tokens=3))
    assert list(stub.Chat(request, timeout=DEADLINE))[-1].finished.reused_tokens > len(SYSTEM)
    daemon.eventually(lambda: daemon.model("clerk").counters.language.prefix_hits == 1)
    daemon.cli("models", "deactivate", "clerk")
    daemon.cli("models", "activate", "clerk")
    assert list(stub.Chat(request, timeout=DEADLINE))[-1].finished.reused_tokens > len(SYSTEM)
    assert any("was read from disk" in line for line in daemon.log)


def test_a_reranker_scores_each_document_whatever_stands_beside_it(stub: generation_pb2_grpc.GenerationStub) -> None:
    documents = ["the first", "another one", "a third document"]
    together = stub.Rerank(pb.RerankRequest(model="judge", query="which", documents=documents), timeout=DEADLINE)
    assert len(together.scores) == 3
    assert len(set(together.scores)) == 3
    for document, score in zip(documents, together.scores, strict=True):
        alone = stub.Rerank(pb.RerankRequest(model="judge", query="which", documents=[document]), timeout=DEADLINE)
        assert alone.scores[0] == pytest.approx(score, abs=1e-3)
    with fails("UNIMPLEMENTED", "generate"):
        answer(stub, "judge")
