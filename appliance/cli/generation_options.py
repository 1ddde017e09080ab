"""From a command's options to those of a generation: constraints and tools out of files, refused with what is wrong."""

import json
from pathlib import Path
from typing import Any

from appliance import limits
from appliance.cli.exit_codes import CommandFailed, ExitCode
from appliance.pb.appliance.v1 import generation_pb2 as pb

_TOOLS_BYTES_MAX = limits.prompt_bytes_max


def constraint(
    schema: Path | None, regex: str | None, grammar: Path | None, choices: list[str]
) -> pb.Constraint | None:
    """At most one of them; raises CommandFailed."""
    given = {"--schema": schema, "--regex": regex, "--grammar": grammar, "--choice": choices or None}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise CommandFailed(ExitCode.USAGE, f"{' and '.join(named)}: an answer can have only one of them")
    if schema is not None:
        text = _read(schema, limits.constraint_bytes_max)
        _json(schema, text)
        return pb.Constraint(json_schema=text)
    if regex is not None:
        return pb.Constraint(regex=regex)
    if grammar is not None:
        text = _read(grammar, limits.constraint_bytes_max)
        return pb.Constraint(gbnf=text) if "::=" in text else pb.Constraint(lark=text)
    if choices:
        return pb.Constraint(choices=pb.Choices(texts=choices))
    return None


def tools(path: Path | None) -> list[pb.Tool]:
    """A JSON list of tools, each {"name", "description", "parameters"}, or OpenAI's {"function": {...}} around it."""
    if path is None:
        return []
    document = _json(path, _read(path, _TOOLS_BYTES_MAX))
    if not isinstance(document, list):
        raise CommandFailed(ExitCode.INVALID_INPUT, f"{path} does not hold a JSON list of tools")
    return [_tool(f"tool {index} in {path}", entry) for index, entry in enumerate(document)]


def tool_choice(wanted: str) -> pb.ToolChoice | None:
    """``auto``, ``none``, ``required``, or a tool's name."""
    if not wanted:
        return None
    modes = {"auto": pb.ToolChoice.AUTO, "none": pb.ToolChoice.NONE, "required": pb.ToolChoice.REQUIRED}
    if wanted in modes:
        return pb.ToolChoice(mode=modes[wanted])
    return pb.ToolChoice(mode=pb.ToolChoice.NAMED, name=wanted)


def _tool(where: str, entry: Any) -> pb.Tool:
    if isinstance(entry, dict) and isinstance(entry.get("function"), dict):
        entry = entry["function"]
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise CommandFailed(ExitCode.INVALID_INPUT, f'{where} is no object with a "name"')
    description, parameters = entry.get("description", ""), entry.get("parameters")
    if not isinstance(description, str) or not isinstance(parameters, dict | None):
        raise CommandFailed(
            ExitCode.INVALID_INPUT, f'{where}: "description" must be text and "parameters" a JSON Schema'
        )
    schema = "" if parameters is None else json.dumps(parameters)
    return pb.Tool(name=entry["name"], description=description, parameters_json=schema)


def _read(path: Path, bytes_max: int) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
        if len(data) > bytes_max:
            raise CommandFailed(ExitCode.INVALID_INPUT, f"{path} is larger than {bytes_max} bytes")
        return data.decode()
    except OSError as error:
        raise CommandFailed(ExitCode.INVALID_INPUT, f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandFailed(ExitCode.INVALID_INPUT, f"{path} is not UTF-8") from None


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        raise CommandFailed(ExitCode.INVALID_INPUT, f"{path} is not JSON: {error.msg} at {at}") from None
    except (ValueError, RecursionError):
        raise CommandFailed(ExitCode.INVALID_INPUT, f"{path} is not JSON, or nested too deeply") from None
