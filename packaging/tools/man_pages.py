#!/usr/bin/env python3
"""Manual pages out of the command line's own help: man_pages.py FOLDER. One page a command, as git has them.

Pages are roff with the man macros (man-pages(7), groff_man(7)). The date is that of SOURCE_DATE_EPOCH.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from appliance import __version__
from appliance.cli.app import app

FILES = (
    ("/etc/inference-appliance/appliance.toml", "The configuration; every key is in it with its default."),
    ("/etc/inference-appliance/conf.d/*.toml", "Changes to it, read in the order of their names."),
    ("/var/lib/inference-appliance", "Models, and what must survive a restart."),
)


def main(folder: Path) -> None:
    """Writes all pages into ``folder``."""
    command = typer.main.get_command(app)
    context = command.make_context("appliance", [], resilient_parsing=True)
    when = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))
    for name, text in pages(command, context, when):
        (folder / f"{name}.1").write_text(text, encoding="utf-8")


def pages(command: Any, context: Any, date: str) -> Iterator[tuple[str, str]]:
    """Name and text of the page of ``command`` and of all below it that are not hidden."""
    name = context.command_path.replace(" ", "-")
    below = [(sub, context_of(sub, context)) for sub in commands(command, context)]
    yield name, page(command, context, [made for _, made in below], date)
    for sub, made in below:
        yield from pages(sub, made, date)


def commands(command: Any, context: Any) -> list[Any]:
    """What is below a group, in its own order; nothing for a command."""
    names = command.list_commands(context) if hasattr(command, "list_commands") else []
    return [sub for sub in (command.get_command(context, name) for name in names) if not sub.hidden]


def context_of(command: Any, parent: Any) -> Any:
    """A context as if ``command`` had been called, without reading arguments."""
    return command.make_context(command.name, [], parent=parent, resilient_parsing=True)


def page(command: Any, context: Any, below: list[Any], date: str) -> str:
    """One manual page."""
    first, rest = _help(command)
    path = context.command_path
    lines = [
        f'.TH "{roff(path.replace(" ", "-").upper())}" 1 {date} "Inference Appliance {__version__}" "User Commands"',
        ".SH NAME",
        f"{roff(path.replace(' ', '-'))} \\- {roff(first.rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {roff(path)}",
        roff(" ".join(command.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
        *_paragraphs(first, *rest),
    ]
    lines += _table("COMMANDS", [(sub.info_name, _help(sub.command)[0]) for sub in below])
    records = [
        parameter.get_help_record(context) for parameter in command.params if not getattr(parameter, "hidden", False)
    ]
    lines += _table("OPTIONS", [record for record in records if record])
    if command.epilog:
        title, *facts = command.epilog.splitlines()
        lines += _table(title.rstrip(":").upper(), [tuple(fact.split(None, 1)) for fact in facts if fact.strip()])
    lines += _table("FILES", FILES)
    parent = context.parent.command_path if context.parent else None
    also = [parent] if parent else []
    also += [sub.command_path for sub in below]
    if also:
        lines += [
            ".SH SEE ALSO",
            ",\n".join(f".BR {roff(other.replace(' ', '-'))} (1)" for other in also).replace(",\n", " ,\n"),
        ]
    return "\n".join(lines) + "\n"


def roff(text: str) -> str:
    """``text`` as roff shows it literally: hyphens that can be copied, no escapes, no requests."""
    text = (
        text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha").replace("`", "\\(ga")
    )
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in text.splitlines())


def _help(command: Any) -> tuple[str, list[str]]:
    """The first sentence and the further paragraphs of a command's help."""
    first, *rest = (command.help or "").replace("\b", "").split("\n\n")
    return " ".join(first.split()), rest


def _paragraphs(*texts: str) -> list[str]:
    lines: list[str] = []
    for text in texts:
        lines += [".PP", roff(" ".join(text.split()))]
    return lines[1:]


def _table(title: str, rows: Any) -> list[str]:
    lines = [f".SH {title}"] if rows else []
    for key, text in rows:
        lines += [".TP", f".B {roff(key)}", roff(text)]
    return lines


if __name__ == "__main__":
    main(Path(sys.argv[1]))
