"""Options that many commands share. ``connected`` gives a command all that is needed to reach the daemon."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

_PANEL = "Connection"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="APPLIANCE_CONFIG",
        show_envvar=False,
        help="The configuration file; default: /etc/inference-appliance/appliance.toml, if it exists.",
    ),
]


class Target(NamedTuple):
    """Which daemon to speak to, and how: by ``address`` over TCP, else by unix socket.

    ``timeout`` in seconds is for one call, None for no limit.
    """

    address: str | None = None
    socket: Path | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    config: Path | None = None
    timeout: float | None = None


def _option(*names: str, text: str, env: str | None = None, **more: Any) -> Any:
    return typer.Option(*names, help=text, envvar=env, show_envvar=False, rich_help_panel=_PANEL, **more)


# The command line's names of Target's fields.
_CONNECTION: dict[str, Any] = {
    "address": Annotated[
        str | None,
        _option("--address", text="host:port of the daemon; default: its unix socket.", env="APPLIANCE_ADDRESS"),
    ],
    "socket": Annotated[
        Path | None, _option("--socket", text="The daemon's unix socket, if not the default.", env="APPLIANCE_SOCKET")
    ],
    "tls_ca": Annotated[
        Path | None, _option("--tls-ca", text="PEM of the authority that signed the daemon's certificate.")
    ],
    "tls_cert": Annotated[Path | None, _option("--tls-cert", text="PEM of our own certificate (mutual TLS).")],
    "tls_key": Annotated[Path | None, _option("--tls-key", text="PEM of our own private key.")],
    "config": Annotated[
        Path | None,
        _option("--config", text="Configuration file that names the unix socket.", env="APPLIANCE_CONFIG"),
    ],
    "timeout": Annotated[
        float | None, _option("--timeout", text="Give up after this many seconds.", min=0.001, max=86_400.0)
    ],
}


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the connection's options to a command, which gets them as one Target in its first parameter."""
    signature = inspect.signature(command, eval_str=True)
    target_name, *_ = signature.parameters

    @functools.wraps(command)
    def with_target(**given: Any) -> None:
        fields = {name: given.pop(name) for name in _CONNECTION}
        command(Target(**fields), **given)

    own = [p for name, p in signature.parameters.items() if name != target_name]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in _CONNECTION.items()
    ]
    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    with_target.__signature__ = signature.replace(parameters=own + added)  # type: ignore[attr-defined]  # typer reads it
    with_target.__annotations__ = {p.name: p.annotation for p in own + added}
    # typer would otherwise follow it to the undecorated function's parameters.
    del with_target.__wrapped__
    return with_target


def complete_model(incomplete: str) -> list[str]:
    """Names of the models that the daemon has which the environment names, else the default one; silent without one."""
    try:
        import os

        from appliance.cli.client import Client

        named = {key: os.environ.get(f"APPLIANCE_{key.upper()}") for key in ("socket", "config")}
        paths = {key: Path(path) for key, path in named.items() if path}
        with Client(Target(**paths, timeout=1.0)) as client:  # type: ignore[arg-type]  # only fields that are paths
            names = {model.name for model in client.status().models}
    except Exception:  # whatever is wrong, a completion must not print it into the prompt
        return []
    return sorted(name for name in names if name.startswith(incomplete))


ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="The model's name.", autocompletion=complete_model, show_default=False)
]
Version = Annotated[str, typer.Option("--version", help="A version of the model; default: the active one.")]
