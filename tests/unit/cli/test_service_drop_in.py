"""The unit's drop-in, from a configuration; and `appliance config systemd`."""

import pytest

from appliance.cli import service_drop_in as drop_ins
from appliance.cli.exit_codes import ExitCode
from appliance.config import Config, EnginesConfig, PathsConfig, RegistryConfig, ServerConfig, TlsConfig


def config(address: str = "127.0.0.1:8001", **registry: object) -> Config:
    return Config(
        server=ServerConfig(address=address, insecure=True),
        registry=RegistryConfig(**registry),  # type: ignore[arg-type]  # its fields
    )


@pytest.mark.parametrize(
    ("made", "allow", "networks"),
    [
        (config(), [], ("localhost",)),
        (config("[::1]:8001"), [], ("localhost",)),
        (config("0.0.0.0:8001"), ["10.1.0.0/16"], ("localhost", "10.1.0.0/16")),
        (config("192.0.2.7:8001"), ["10.1.0.0/16"], ("localhost", "192.0.2.7", "10.1.0.0/16")),
        (config("[2001:db8::7]:8001"), ["2001:db8::/32"], ("localhost", "2001:db8::7", "2001:db8::/32")),
        (config(url="https://198.51.100.2:5000"), [], ("localhost", "198.51.100.2")),
        (config(url="https://[2001:db8::5]"), [], ("localhost", "2001:db8::5")),
        (config(url="http://127.0.0.1:5000"), [], ("localhost",)),
        (config(url="layout:/srv/models", mirrors=("https://198.51.100.3",)), [], ("localhost", "198.51.100.3")),
        (config(url="https://r.example", proxy="http://198.51.100.9:3128"), [], ("localhost", "198.51.100.9")),
        (config(url="layout:/srv/models", proxy="http://198.51.100.9:3128"), [], ("localhost",)),
        (config(url="offline:"), ["192.0.2.0/24", "192.0.2.0/24"], ("localhost", "192.0.2.0/24")),
        (config("0.0.0.0:8001"), ["any"], ("any",)),
    ],
)
def test_networks(made: Config, allow: list[str], networks: tuple[str, ...]) -> None:
    planned = drop_ins.plan(made, allow, gpu=False)
    assert planned.networks == networks
    assert planned.notes == ()


@pytest.mark.parametrize(
    ("made", "key", "host"),
    [
        (config(url="https://registry.plant.example"), "registry.url", "registry.plant.example"),
        (config(url="layout:/srv/m", mirrors=("https://b.example",)), "registry.mirrors[0]", "b.example"),
        (config(url="https://a.example", proxy="http://p.example:1"), "registry.proxy", "p.example"),
    ],
)
def test_names_cannot_be_allowed_and_that_is_said(made: Config, key: str, host: str) -> None:
    planned = drop_ins.plan(made, [], gpu=False)
    assert planned.networks == ("localhost",)
    assert [note.partition(":")[0] for note in planned.notes] == [f"{key} names {host}"]
    assert f"# NOTE: {key} names {host}" in drop_ins.render(planned, [])


def test_clients_that_nobody_named() -> None:
    with pytest.raises(drop_ins.ClientsUnknownError):
        drop_ins.plan(config("0.0.0.0:8001"), [], gpu=False)


@pytest.mark.parametrize("bad", ["plant", "10.1.0.0/33", "10.1.2.3/16", "", "10.1.0.0/16\nUser=root"])
def test_what_is_no_network(bad: str) -> None:
    with pytest.raises(ValueError, match="neither an address, nor a network"):
        drop_ins.plan(config(), [bad], gpu=False)


@pytest.mark.parametrize(
    ("providers", "there", "opened"),
    [(("cuda", "cpu"), True, True), (("tensorrt",), True, True), (("cpu",), True, False), (("cuda",), False, False)],
)
def test_gpu(providers: tuple[str, ...], there: bool, opened: bool) -> None:
    planned = drop_ins.plan(Config(engines=EnginesConfig(providers=providers)), [], gpu=there)
    assert planned.gpu is opened
    assert ("DeviceAllow=char-nvidia* rw" in drop_ins.render(planned, [])) is opened


def test_keys_come_as_credentials() -> None:
    tls = TlsConfig(certificate="/etc/x/s.pem", key="/etc/x/s.key")
    made = Config(server=ServerConfig(tls=tls), registry=RegistryConfig(credentials="credential:registry.json"))
    planned = drop_ins.plan(made, [], gpu=False)
    assert planned.credentials == (("server.tls.key", "/etc/x/s.key"),)
    assert "\nLoadCredential=server.tls.key:/etc/x/s.key\n" in drop_ins.render(planned, [])
    must_say = "a drop-in must say LoadCredential=registry.json:/PATH/OF/THE/FILE"
    assert planned.notes == (
        'with LoadCredential=server.tls.key, write server.tls.key = "credential:server.tls.key"',
        f"registry.credentials is the credential registry.json: {must_say}",
    )


def test_folders_that_the_service_does_not_see() -> None:
    made = Config(paths=PathsConfig(state="/data/models"), registry=RegistryConfig(url="layout:/home/me/models"))
    assert drop_ins.plan(made, [], gpu=False).notes == (
        "registry.url is /home/me/models, which the service does not see: put it below /srv or /etc",
        "paths.state is /data/models: the service may write there only with ReadWritePaths=/data/models",
    )


def test_everything_may_be_reached() -> None:
    text = drop_ins.render(drop_ins.plan(config("0.0.0.0:8001"), ["any"], gpu=False), ["/etc/a.toml"])
    assert "from /etc/a.toml" in text.splitlines()[0]
    assert "\nIPAddressDeny=\n" in text
    assert "IPAddressDeny=any" not in text


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    made = tmp_path / "appliance.toml"
    made.write_text("[server]\naddress = '0.0.0.0:8001'\ninsecure = true\n[engines]\nproviders = ['cpu']\n")
    return made


def test_printed(cli, file):
    done = cli("config", "systemd", "--config", file, "--allow", "10.1.0.0/16")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].endswith(f"from {file}. Make it anew when that changes.")
    assert lines[-3:] == ["IPAddressDeny=any", "IPAddressAllow=localhost", "IPAddressAllow=10.1.0.0/16"]


def test_written(cli, file, tmp_path):
    target = tmp_path / "inference-appliance.service.d" / "50-generated.conf"
    file.write_text(file.read_text() + "[registry]\nurl = 'https://registry.example'\n")
    done = cli("config", "systemd", "--config", file, "--allow", "any", "--output", target)
    assert (done.code, done.err) == (0, "")
    assert "systemctl daemon-reload" in done.out
    assert target.read_text() == cli("config", "systemd", "--config", file, "--allow", "any").out
    assert target.stat().st_mode & 0o777 == 0o644
    named = cli("config", "systemd", "--config", file, "--allow", "10.0.0.0/8", "--output", target)
    assert "registry.url names registry.example" in named.err


def test_made_anew_it_still_loads_what_is_now_a_credential(cli, file, tmp_path, certificates):
    _, certificate, key = certificates
    target = tmp_path / "50-generated.conf"
    made = ("config", "systemd", "--config", file, "--allow", "any", "--output", target)
    text = file.read_text()
    file.write_text(f"{text}[server.tls]\ncertificate = '{certificate}'\nkey = '{key}'\n")
    assert 'write server.tls.key = "credential:server.tls.key"' in cli(*made).err
    file.write_text(f"{text}[server.tls]\ncertificate = '{certificate}'\nkey = 'credential:server.tls.key'\n")
    assert "credential" not in cli(*made).err
    assert f"LoadCredential=server.tls.key:{key}" in target.read_text().splitlines()


def test_json(cli, file):
    document = cli("config", "systemd", "--config", file, "--allow", "10.1.0.0/16", "--json").json
    assert document["ip_address_allow"] == ["localhost", "10.1.0.0/16"]
    assert document["gpu"] is False
    assert document["load_credential"] == {}
    assert "IPAddressAllow=10.1.0.0/16" in document["text"].splitlines()


@pytest.mark.parametrize(
    ("options", "words"),
    [((), "--allow 10.1.0.0/16, or --allow any"), (("--allow", "plant"), "neither an address, nor a network")],
)
def test_refused(cli, file, options, words):
    done = cli("config", "systemd", "--config", file, *options)
    assert done.code == ExitCode.INVALID_INPUT
    assert words in " ".join(done.err.split())
    assert done.out == ""


def test_a_place_that_cannot_be_written(cli, file):
    done = cli("config", "systemd", "--config", file, "--allow", "any", "--output", "/proc/none/x.conf")
    assert done.code == ExitCode.FAILED
    assert "cannot write /proc/none/x.conf" in done.err


@pytest.mark.parametrize(
    ("allow", "networks"),
    [((), ()), (("10.1.0.0/16", "192.0.2.7"), ("10.1.0.0/16", "192.0.2.7")), (("any",), ("any",))],
)
def test_what_a_drop_in_allows(allow, networks):
    assert drop_ins.allowed_by(drop_ins.render(drop_ins.plan(Config(), allow, False), [])) == networks
    assert drop_ins.allowed_by("[Service]\nNice=5\n") is None


def test_keys_named_by_path_are_loaded_only_when_offered():
    made = Config(server=ServerConfig(tls=TlsConfig(certificate="/etc/x.pem", key="/etc/x.key")))
    assert drop_ins.plan(made, (), False).credentials == (("server.tls.key", "/etc/x.key"),)
    assert drop_ins.plan(made, (), False, offer=False).credentials == ()
