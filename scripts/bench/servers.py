"""Which servers a benchmark measures: one at an address or a daemon of its own, and beside it any number of peers."""

import argparse
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import peers
from bench.own_daemon import MODELS, OwnDaemon
from bench.payload import InputSpec, parse_input
from bench.target import BenchError, Target, is_reachable, model_inputs


@dataclass(frozen=True)
class Server:
    """One server under test and its model's inputs. ``pid``: its processes descend from that one; 0: not known."""

    target: Target
    inputs: list[InputSpec]
    pid: int = 0


def add_options(made: argparse.ArgumentParser, folder: str) -> None:
    """``folder``: the model that the own daemon serves by default."""
    made.add_argument("address", nargs="?", help="host:port or unix:/path of a running server (default: a daemon of this "
                      "checkout, started for the measurement with nothing configured)")  # fmt: skip
    made.add_argument("--folder", type=Path, default=MODELS / folder, metavar="DIR",
                      help="model folder for the own daemon and the peers (default: .demo/models/" + folder + ")")  # fmt: skip
    made.add_argument("--peers", nargs="*", choices=peers.NAMES, default=[], metavar="NAME",
                      help=f"installed, started with the same .onnx file and measured in turns: {' '.join(peers.NAMES)}")  # fmt: skip
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                      help="configuration of the own daemon, such as server.front_ends=1 (default: as shipped)")  # fmt: skip


@contextlib.contextmanager
def running(args: argparse.Namespace, config: str = "") -> Iterator[list[Server]]:
    """All servers, ours first, while the block lasts; BenchError when one can't be reached, started or asked.

    A started peer's model has the name of ours, so that both get the same bytes.
    """
    with contextlib.ExitStack() as stack:
        model = args.model or args.folder.name
        found = []
        if args.address:
            if not args.model:
                raise BenchError("--model: an address needs the name of a model")
            found.append((Target(args.label, args.address, model, getattr(args, "version", "")), args.input, 0))
        else:
            daemon = stack.enter_context(OwnDaemon("\n".join([config, *args.set])))
            daemon.add(args.folder)
            daemon.wait_ready([model])
            found.append((Target(args.label, daemon.address, model), args.input, daemon.pid))
        if getattr(args, "peer", None):
            target = Target(args.peer_label, args.peer, args.peer_model or model, args.peer_version)
            found.append((target, args.peer_input or args.input, 0))
        started = stack.enter_context(peers.all_running(args.peers, args.folder / "model.onnx", model))
        found += [(one.target, args.input, one.pid) for one in started]
        yield [_asked(target, texts, pid, args.timeout) for target, texts, pid in found]


def _asked(target: Target, texts: list[str], pid: int, timeout_s: float) -> Server:
    if not is_reachable(target.address):
        raise BenchError(f"{target.label}: nothing listens on {target.address}")
    return Server(target, [parse_input(text) for text in texts] or model_inputs(target, timeout_s), pid)
