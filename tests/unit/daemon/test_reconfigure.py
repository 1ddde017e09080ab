"""What a reload may change while the daemon serves, key by key."""

from collections.abc import Iterator

import msgspec
import pytest

from appliance.config import (
    Config,
    EnginesConfig,
    LogConfig,
    ModelsConfig,
    RegistryConfig,
    Section,
    ServerConfig,
    TlsConfig,
)
from appliance.daemon.reconfigure import Reconfigure, differences
from appliance.errors import InvalidArgument

TLS = TlsConfig(certificate="/a.pem", key="/a.key")


def looked(
    old: Config, new: Config, running: Config | None = None
) -> "tuple[Config, tuple[str, ...], tuple[str, ...]]":
    change = Reconfigure(old, running or old, lambda: new).look()
    return change.running, change.live, change.waiting


def test_what_can_change_does_and_the_rest_waits() -> None:
    new = Config(
        server=ServerConfig(address="127.0.0.1:9", threads=7, drain_seconds=3),
        engines=EnginesConfig(queue_max=5, realtime=False),
        models=ModelsConfig(required=("iris",)),
        registry=RegistryConfig(url="https://hq"),
        log=LogConfig(level="debug"),
    )
    running, live, waiting = looked(Config(), new)
    assert live == ("server.drain_seconds", "engines.queue_max", "models.required", "registry.url", "log.level")
    assert waiting == ("server.address", "server.threads", "engines.realtime")
    assert (running.server.threads, running.server.drain_seconds) == (ServerConfig().threads, 3)
    assert running.registry.url == "https://hq"
    assert running.engines == EnginesConfig(queue_max=5)


def test_a_port_that_was_found_stays() -> None:
    asked = Config(server=ServerConfig(address="127.0.0.1:0"))
    found = Config(server=ServerConfig(address="127.0.0.1:4711"))
    running, live, waiting = looked(asked, asked, found)
    assert (running, live, waiting) == (found, (), ())


@pytest.mark.parametrize(
    ("old", "new", "live"),
    [
        (TLS, TlsConfig(certificate="/b.pem", key="/b.key"), True),
        (TLS, TlsConfig(certificate="/a.pem", key="/a.key", client_ca="/ca.pem"), False),
        (TlsConfig(), TLS, False),
        (TLS, TlsConfig(), False),
    ],
)
def test_another_certificate_can_come_but_no_other_kind_of_port(old: TlsConfig, new: TlsConfig, live: bool) -> None:
    before, after = Config(server=ServerConfig(tls=old)), Config(server=ServerConfig(tls=new))
    running, now, waiting = looked(before, after)
    assert running == (after if live else before)
    assert bool(now) == live
    assert bool(waiting) == (not live)


def test_what_waits_is_told_again_and_what_was_taken_is_not() -> None:
    written = Config(server=ServerConfig(threads=7), log=LogConfig(level="debug"))
    reconfigure = Reconfigure(Config(), Config(), lambda: written)
    reconfigure.accept(reconfigure.look())
    again = reconfigure.look()
    assert (again.live, again.waiting) == ((), ("server.threads",))
    written = Config()
    assert reconfigure.look().live == ("log.level",)
    assert reconfigure.look().waiting == ()


def test_what_is_no_configuration_changes_nothing() -> None:
    def read() -> Config:
        raise InvalidArgument("appliance.toml: server.threads: 0 is not from 1")

    with pytest.raises(InvalidArgument):
        Reconfigure(Config(), Config(), read).look()


def test_every_key_is_seen() -> None:
    """A table that is added to the configuration must not be compared as one value, nor left out."""

    def keys(section: Section, at: str = "") -> Iterator[str]:
        for field in msgspec.structs.fields(section):
            value = getattr(section, field.name)
            yield from keys(value, f"{at}{field.name}.") if isinstance(value, Section) else (at + field.name,)

    assert not set(differences(Config(), Config()))
    for key in keys(Config()):
        assert tuple(differences(Config(), _changed(Config(), key))) == (key,)


def _changed(config: Section, key: str) -> "Section":
    name, _, rest = key.partition(".")
    value = getattr(config, name)
    return msgspec.structs.replace(config, **{name: _changed(value, rest) if rest else _other(value)})


def _other(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "x"
    return (*value, "x") if isinstance(value, tuple) else value + 1  # type: ignore[operator]  # a number
