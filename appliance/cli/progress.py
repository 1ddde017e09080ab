"""How far a long request is: a bar on a terminal, a line for each new sentence elsewhere, on standard error either way."""

import sys
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from appliance.cli import output
from appliance.cli.exit_codes import CommandFailed, ExitCode

if TYPE_CHECKING:
    from appliance.pb.appliance.v1.admin_pb2 import ProgressResponse


class Progress:
    """Shows what is being done, entered around the work."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._text = ""
        self._lock = threading.Lock()

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(24),
                TextColumn("{task.percentage:>3.0f} %"),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, text: str, current: int = 0, total: int = 0) -> None:
        """The sentence of the moment, and how much of how much is done; ``total`` 0 when unknown."""
        # An upload is counted in gRPC's sending thread while the daemon's sentences arrive in ours.
        with self._lock:
            text = output.line(text) or self._text
            if text != self._text:
                self._text = text
                self._announce(text)
            if self._bar is not None and self._task is not None:
                self._bar.update(self._task, completed=current, total=total or None)

    def _announce(self, text: str) -> None:
        if self._bar is None:
            output.note(text)
            return
        # What is done stays readable above the bar.
        self._bar.console.print(text, markup=False, highlight=False)
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task("", total=None)


def follow(responses: "Iterable[ProgressResponse]", progress: Progress) -> "ProgressResponse":
    """Shows a stream of ProgressResponse and returns its last; raises CommandFailed when that isn't the end."""
    last = None
    for last in responses:
        progress.show(last.text, last.current, last.total)
    if last is None or not last.done:
        raise CommandFailed(ExitCode.FAILED, "the daemon ended the answer before it was done")
    return last
