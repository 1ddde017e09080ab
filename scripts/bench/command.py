"""What every benchmark's command line does alike: refuse nonsense, end with a status, and end what it started."""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from bench import h2load_driver
from bench.target import BenchError


def answer(
    name: str, parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int], argv: list[str]
) -> int:
    """The exit status: what ``run`` says, or 2 when nothing could be measured, which is told."""
    try:
        return run(parser.parse_args(argv))
    except (BenchError, ValueError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2


def start(main: Callable[[list[str]], int]) -> NoReturn:
    """Runs the program. Whoever ends it (timeout(1), say) ends the servers that it started, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main(sys.argv[1:]))


def check_above_zero(args: argparse.Namespace, names: Sequence[str]) -> None:
    """Raises BenchError for the first of these options that isn't, or has a value that isn't."""
    for name in names:
        values = getattr(args, name)
        if any(value <= 0 for value in (values if isinstance(values, list) else [values])):
            raise BenchError(f"--{name.replace('_', '-')} must be above 0")


def need_h2load() -> None:
    """Raises BenchError where there is no h2load."""
    if not h2load_driver.is_installed():
        raise BenchError("h2load is not installed (Debian: apt-get install nghttp2-client)")
