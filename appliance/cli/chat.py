"""`appliance chat MODEL`: one question, or a conversation at a terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli import output
from appliance.cli.options import Json, ModelName, Target, Version, connected

if TYPE_CHECKING:
    from appliance.cli.answer_display import Display
    from appliance.cli.conversation import Answer, Conversation

_PANEL = "Sampling (default: what the model's owner chose)"
_FORM = "What the answer must look like (one of these)"
_TOOLS = "Tools"
_MESSAGE_BYTES_MAX = 4 * 1024 * 1024


def _sampling(text: str, **bounds: Any) -> Any:
    return typer.Option(help=text, rich_help_panel=_PANEL, show_default=False, **bounds)


def _form(text: str, **more: Any) -> Any:
    return typer.Option(help=text, rich_help_panel=_FORM, show_default=False, **more)


def _tool_option(text: str, **more: Any) -> Any:
    return typer.Option(help=text, rich_help_panel=_TOOLS, show_default=False, **more)


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
    seed: Annotated[int | None, _sampling("The same seed draws the same way again.", min=0, max=2**32 - 1)] = None,
    schema: Annotated[Path | None, _form("JSON that validates against the JSON Schema in this file.")] = None,
    regex: Annotated[str | None, _form("Text that this regular expression matches as a whole.")] = None,
    grammar: Annotated[
        Path | None, _form("Text of the grammar in this file: GBNF where it has ::=, else Lark.")
    ] = None,
    choice: Annotated[list[str] | None, _form("One of the texts that are given so.")] = None,
    tools: Annotated[Path | None, _tool_option("Tools that the model may call: a JSON list in this file.")] = None,
    tool_choice: Annotated[str, _tool_option("auto, none, required, or a tool's name.")] = "",
    adapter: Annotated[str, typer.Option(help="A LoRA adapter of the model.", show_default=False)] = "",
    priority: Annotated[int, typer.Option(help="1 is the highest; 0: the model's default.", min=0, max=2**32 - 1)] = 0,
    as_json: Json = False,
) -> None:
    """Talk to a language model. Ctrl-C stops an answer, /reset forgets the conversation, /quit leaves.

    The model's thoughts go to standard error. Its tool calls are printed, one
    JSON object a line; nothing is executed.

    Example: appliance chat assistant "Why is the sky blue?"

    Example: appliance chat assistant "An address in Bern" --schema address.json

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
    from appliance.cli import generation_options
    from appliance.cli.answer_display import Display
    from appliance.cli.client import Client
    from appliance.cli.conversation import Conversation
    from appliance.pb.appliance.v1 import generation_pb2 as pb

    form = generation_options.constraint(schema, regex, grammar, choice or [])
    options = pb.Options(max_tokens=max_tokens, stop=stop or [], constraint=form, adapter=adapter, priority=priority)
    for name, value in sampling.items():
        if value is not None:
            setattr(options.sampling, name, value)
    request = pb.ChatRequest(
        model=model,
        version=version,
        messages=[pb.ChatMessage(role="system", content=system)] if system else [],
        options=options,
        tools=generation_options.tools(tools),
        tool_choice=generation_options.tool_choice(tool_choice),
    )
    with Client(target) as client:
        conversation = Conversation(client, request)
        if question is None:
            _talk(conversation, model, Display())
        else:
            _one_shot(conversation, question, Display(silent=as_json), as_json)


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


def _one_shot(conversation: Conversation, question: str, display: Display, as_json: bool) -> None:
    from appliance.cli.exit_codes import ExitCode

    answer = conversation.ask(question, display)
    if answer.finished is None:
        raise typer.Exit(ExitCode.INTERRUPTED)
    output.emit(_document(answer), as_json, lambda: None)


def _talk(conversation: Conversation, model: str, display: Display) -> None:
    # Line editing and a history of what was typed, for this run only: questions may be confidential.
    import readline  # noqa: F401  # importing it is what gives input() its editing

    from appliance.cli.conversation import HELP, converse

    output.note(f"Talking to {model}.\n{HELP}")
    converse(conversation, lambda: input("> "), display, output.note)


def _document(answer: Answer) -> dict[str, Any]:
    from appliance.cli.answer_display import tool_call
    from appliance.cli.messages import document

    assert answer.finished is not None
    return {
        "model": answer.model,
        "version": answer.version,
        "text": answer.text,
        "reasoning": answer.reasoning,
        "tool_calls": [tool_call(call) for call in answer.tool_calls],
        "finished": document(answer.finished),
    }
