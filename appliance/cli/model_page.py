"""One model version as a page: how it stands, what it takes and gives, its card."""

from typing import Any

from appliance.cli import language_facts, output, tensor_facts
from appliance.pb.appliance.v1 import admin_pb2


def print_model(answer: admin_pb2.ShowModelResponse, spec: dict[str, Any]) -> None:
    """The page of `appliance models show`."""
    status = answer.status
    output.table([(f"{status.name} {status.version}", "left"), ("", "left")], _facts(answer, spec))
    tensors = [("input", t) for t in status.inputs] + [("output", t) for t in status.outputs]
    if tensors:
        output.say("")
        rows = [[way + ("?" if t.optional else ""), t.name, t.datatype, shape_text(t.shape)] for way, t in tensors]
        output.table([("TENSOR", "left"), ("NAME", "left"), ("TYPE", "left"), ("SHAPE", "left")], rows)
        meanings = [(t.name, tensor_facts.meaning(t)) for t in status.outputs]
        rows = [[output.line(name), text] for name, text in meanings if text]
        if rows:
            output.say("")
            output.table([("OUTPUT", "left"), ("MEANS", "left")], rows)
    files = [f for f in spec.get("files", []) if isinstance(f, dict)]
    if files:
        output.say("")
        rows = [[str(f.get("path", "")), str(f.get("role", "model"))] for f in files]
        output.table([("FILE", "left"), ("ROLE", "left")], rows)


def shape_text(shape: Any) -> str:
    """``[?, 4]``: a question mark is an axis of any length."""
    return "[" + ", ".join("?" if axis < 0 else str(axis) for axis in shape) + "]"


def _abilities(status: admin_pb2.ModelStatus) -> list[tuple[str, bool]]:
    return [("chat", status.chats), ("embeddings", status.embeds), ("reranking", status.reranks)]


def _facts(answer: admin_pb2.ShowModelResponse, spec: dict[str, Any]) -> list[list[str]]:
    status = answer.status
    card = spec.get("card")
    facts = [
        ("state", status.state + (", active" if status.active else "")),
        ("reason", status.reason),
        ("on probation", f"until {output.moment(status.probation_until_ms)}" if status.probation_until_ms else ""),
        ("quarantined", status.quarantine_reason),
        (
            "compared with",
            f"{status.comparison.candidate} ({status.comparison.mode})" if status.HasField("comparison") else "",
        ),
        ("engine", status.engine),
        ("kind", status.kind),
        ("context", f"{status.context_tokens_max} tokens" if status.context_tokens_max else ""),
        ("does", ", ".join(word for word, can in _abilities(status) if can)),
        ("adapters", ", ".join(status.adapters)),
        *language_facts.sentences(status.counters),
        *tensor_facts.sentences(status),
        ("size", output.size(status.size_bytes)),
        ("digest", status.digest),
        ("added", output.moment(answer.added_ms)),
        ("golden tests", str(len(spec.get("golden") or []))),
    ]
    if isinstance(card, dict):
        facts += [(key.replace("_", " "), str(value)) for key, value in card.items()]
    return [[name, output.line(value)] for name, value in facts if value]
