"""Manual pages: one a command, with all its options, and roff that shows what was written."""

import shutil
import subprocess
from pathlib import Path

import man_pages
import pytest
import typer.main

from appliance.cli.app import app


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    command = typer.main.get_command(app)
    context = command.make_context("appliance", [], resilient_parsing=True)
    return dict(man_pages.pages(command, context, "2026-11-28"))


def test_every_command_has_a_page(pages: dict[str, str]) -> None:
    assert {
        "appliance",
        "appliance-serve",
        "appliance-models",
        "appliance-models-list",
        "appliance-doctor",
    } <= pages.keys()


def test_a_page_has_the_options_of_its_command(pages: dict[str, str]) -> None:
    assert "\n.TP\n.B \\-\\-state\\-dir <path>\nFolder of the models" in pages["appliance-serve"]


def test_the_first_page_has_commands_exit_statuses_and_leads_on(pages: dict[str, str]) -> None:
    first = pages["appliance"]
    assert "\n.TP\n.B serve\n" in first
    assert "\n.SH EXIT STATUS\n" in first
    assert "\n.BR appliance\\-doctor (1)" in first


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("--json", "\\-\\-json"),
        (".hidden", "\\&.hidden"),
        ("a\n'b", "a\n\\&'b"),
        ("C:\\x", "C:\\ex"),
        ("~/x", "\\(ti/x"),
    ],
)
def test_roff_shows_text_literally(text: str, shown: str) -> None:
    assert man_pages.roff(text) == shown


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed: it checks the pages for warnings")
def test_groff_has_no_warnings(pages: dict[str, str], tmp_path: Path) -> None:
    for name, text in pages.items():
        path = tmp_path / f"{name}.1"
        path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-k", "-ww", "-z", *sorted(tmp_path.iterdir())],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
