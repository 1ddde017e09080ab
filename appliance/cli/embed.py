"""`appliance embed MODEL TEXT...`: one vector for each text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli import output
from appliance.cli.options import Json, ModelName, Target, Version, connected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.cli.client import Client

_SECONDS = 300.0
_VALUES_SHOWN = 4
_TEXT_CHARS_SHOWN = 32


@connected
def embed(
    target: Target,
    model: ModelName,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT", show_default=False, help="The texts; - reads one a line from standard input (the default)."
        ),
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="A file of texts, one a line.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="As the model gave them, and not of length 1.")] = False,
    version: Version = "",
    as_json: Json = False,
) -> None:
    """Make a vector of each text. The table shows how each begins; --json prints all.

    Example: appliance embed minilm "a red house" "ein rotes Haus" --json

    Example: appliance embed minilm --file titles.txt --json
    """
    from appliance.cli.client import Client
    from appliance.cli.texts_input import read_texts
    from appliance.pb.appliance.v1 import generation_pb2 as pb

    given = read_texts(texts or [], file, "texts")
    vectors: list[list[float]] = []
    tokens = 0
    answer = pb.EmbedResponse()
    with Client(target) as client:
        for answer in _answers(client, pb.EmbedRequest(model=model, version=version, raw=raw), given):
            vectors += [[output.shortest(value) for value in row.values] for row in answer.embeddings]
            tokens += answer.usage.prompt_tokens
    document = {
        "model": answer.model,
        "version": answer.version,
        "embeddings": vectors,
        "usage": {"prompt_tokens": tokens},
    }
    output.emit(document, as_json, lambda: _table(given, vectors))


def _answers(client: Client, request: Any, texts: list[str]) -> Iterator[Any]:
    """As many requests as the texts need."""
    from appliance.limits import embed_texts_max

    for start in range(0, len(texts), embed_texts_max):
        del request.texts[:]
        request.texts.extend(texts[start : start + embed_texts_max])
        with client.failures():
            answer = client.generation.Embed(request, timeout=client.timeout or _SECONDS)
        yield answer


def _table(texts: list[str], vectors: list[list[float]]) -> None:
    rows = []
    for text, vector in zip(texts, vectors, strict=True):
        shown = ", ".join(f"{value:.4f}" for value in vector[:_VALUES_SHOWN])
        more = ", ..." if len(vector) > _VALUES_SHOWN else ""
        rows.append([output.clipped(text, _TEXT_CHARS_SHOWN), str(len(vector)), f"[{shown}{more}]"])
    output.table([("TEXT", "left"), ("SIZE", "right"), ("VECTOR", "left")], rows)
