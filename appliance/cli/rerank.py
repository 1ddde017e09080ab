"""`appliance rerank MODEL QUERY DOCUMENT...`: documents by how well they answer a query."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli import output
from appliance.cli.options import Json, ModelName, Target, Version, connected

_SECONDS = 300.0
_DOCUMENT_CHARS_SHOWN = 60


@connected
def rerank(
    target: Target,
    model: ModelName,
    query: Annotated[str, typer.Argument(metavar="QUERY", show_default=False, help="What is asked.")],
    documents: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DOCUMENT",
            show_default=False,
            help="The documents, at most 256; - reads one a line from standard input (the default).",
        ),
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="A file of documents, one a line.")] = None,
    version: Version = "",
    as_json: Json = False,
) -> None:
    """Score how well each document answers the query; the table has the best first, --json keeps their order.

    Example: appliance rerank reranker "What do pandas eat?" "Bamboo." "At noon."

    Example: appliance rerank reranker "What do pandas eat?" --file found.txt --json
    """
    from appliance.cli.client import Client
    from appliance.cli.texts_input import read_texts
    from appliance.pb.appliance.v1 import generation_pb2 as pb

    given = read_texts(documents or [], file, "documents")
    request = pb.RerankRequest(model=model, version=version, query=query, documents=given)
    with Client(target) as client, client.failures():
        answer = client.generation.Rerank(request, timeout=client.timeout or _SECONDS)
    scores = [output.shortest(score) for score in answer.scores]
    document = {
        "model": answer.model,
        "version": answer.version,
        "scores": scores,
        "usage": {"prompt_tokens": answer.usage.prompt_tokens},
    }
    output.emit(document, as_json, lambda: _table(given, scores))


def _table(documents: list[str], scores: list[float]) -> None:
    ranked = sorted(enumerate(zip(documents, scores, strict=True), 1), key=lambda entry: -entry[1][1])
    rows = [
        [f"{score:.4f}", str(number), output.clipped(text, _DOCUMENT_CHARS_SHOWN)] for number, (text, score) in ranked
    ]
    output.table([("SCORE", "right"), ("NO.", "right"), ("DOCUMENT", "left")], rows)
