"""`appliance chat MODEL`: one question, or a conversation at a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli import output
from appliance.cli.options import Json, ModelName, Target, Version, connected

if TYPE_CHECKING:
    from appliance.cli.conversation import Answer, Conversation

_PANEL = "Sampling (default: what the model's owner chose)"
_MESSAGE_BYTES_MAX = 4 * 1024 * 1024


def _sampling(text: str, **bounds: Any) -> Any:
    return typer.Option(help=text, rich_help_panel=_PANEL, show_default=False, **bounds)


@connected
def chat(
    target: Target,
    model: ModelName,
    message: Annotated[
        str | None,
        typer.Argument(
            metavar="MESSAGE", show_default=False, help="One question; - reads it from standard input; none: talk."
        ),
    ] = None,
    version: Version = "",
    system: Annotated[str, typer.Option(help="What the model is told before the conversation.")] = "",
    max_tokens: Annotated[int, typer.Option(help="Most tokens of one answer; 0: as many as fit.", min=0)] = 0,
    stop: Annotated[list[str] | None, typer.Option(help="End the answer before this; up to 16 times.")] = None,
    temperature: Annotated[float | None, _sampling("0 always takes the likeliest token.", min=0, max=5)] = None,
    top_k: Annotated[int | None, _sampling("Only the k likeliest tokens; 0: all.", min=0)] = None,
    top_p: Annotated[float | None, _sampling("Only the likeliest tokens of this sum; 1: all.", min=0, max=1)] = None,
    min_p: Annotated[
        float | None, _sampling("Drop what is less likely than this share of the best.", min=0, max=1)
    ] = None,
    repeat_penalty: Annotated[float | None, _sampling("Above 1, against repetition.", min=0.01)] = None,
    seed: Annotated[int | None, _sampling("The same seed gives the same answer.", min=0, max=2**32 - 1)] = None,
    as_json: Json = False,
) -> None:
    """Talk to a language model. Ctrl-C stops an answer, /reset forgets the conversation, /quit leaves.

    Example: appliance chat assistant "Why is the sky blue?"

    Example: appliance chat assistant - --json < question.txt
    """
    sampling = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repeat_penalty": repeat_penalty,
        "seed": seed,
    }
    question = _question(message, as_json)
    from appliance.cli.client import Client
    from appliance.cli.conversation import Conversation
    from appliance.pb.appliance.v1 import generation_pb2 as pb

    options = pb.Options(max_tokens=max_tokens, stop=stop or [])
    for name, value in sampling.items():
        if value is not None:
            setattr(options.sampling, name, value)
    with Client(target) as client:
        conversation = Conversation(client, model, version, system, options)
        if question is None:
            _talk(conversation, model)
        else:
            _one_shot(conversation, question, as_json)


def _question(message: str | None, as_json: bool) -> str | None:
    """The one question, or None for a conversation."""
    from appliance.cli.exit_codes import CommandFailed, ExitCode

    if message is None and sys.stdin.isatty():
        if as_json:
            raise CommandFailed(
                ExitCode.USAGE, "--json is for one question: give it as MESSAGE, or - for standard input"
            )
        return None
    if message is None or message == "-":
        data = sys.stdin.buffer.read(_MESSAGE_BYTES_MAX + 1)
        if len(data) > _MESSAGE_BYTES_MAX:
            raise CommandFailed(ExitCode.INVALID_INPUT, f"the message is larger than {_MESSAGE_BYTES_MAX} bytes")
        try:
            message = data.decode()
        except UnicodeDecodeError:
            raise CommandFailed(ExitCode.INVALID_INPUT, "the message on standard input is not UTF-8") from None
    if not message.strip():
        raise CommandFailed(ExitCode.INVALID_INPUT, "the message is empty")
    return message


def _one_shot(conversation: Conversation, question: str, as_json: bool) -> None:
    from appliance.cli.exit_codes import ExitCode

    answer = conversation.ask(question, (lambda _: None) if as_json else _write)
    if answer.finished is None:
        _write("" if as_json else "\n")
        raise typer.Exit(ExitCode.INTERRUPTED)
    output.emit(_document(answer), as_json, lambda: _write("\n"))


def _talk(conversation: Conversation, model: str) -> None:
    # Line editing and a history of what was typed, for this run only: questions may be confidential.
    import readline  # noqa: F401  # importing it is what gives input() its editing

    from appliance.cli.conversation import HELP, converse

    output.note(f"Talking to {model}.\n{HELP}")
    converse(conversation, lambda: input("> "), _write, output.note)


def _write(text: str) -> None:
    sys.stdout.write(output.printable(text))
    sys.stdout.flush()


def _document(answer: Answer) -> dict[str, Any]:
    from appliance.cli.messages import document

    assert answer.finished is not None
    finished = document(answer.finished)
    return {"model": answer.model, "version": answer.version, "text": answer.text, "finished": finished}
