"""The configuration's parser: files, drop-ins, overrides, and what it says about every kind of mistake."""

from pathlib import Path

import pytest

from appliance import limits
from appliance.config import Config
from appliance.config_file import load, load_config
from appliance.errors import InvalidArgument


@pytest.fixture(autouse=True)
def short_runtime_folder(monkeypatch):
    """So that the socket's path is short whatever the test machine's home is."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")


def write(folder: Path, text: str, name: str = "appliance.toml") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def refusal(path: Path, **overrides: object) -> str:
    with pytest.raises(InvalidArgument) as caught:
        load(path, overrides)
    assert caught.value.reason == "CONFIG"
    assert "\n" not in caught.value.message
    return caught.value.message


def test_empty_file_gives_the_defaults(tmp_path):
    assert load_config(write(tmp_path, "")) == Config()


def test_without_any_file_the_defaults_hold(tmp_path, monkeypatch):
    monkeypatch.setattr("appliance.config_file.DEFAULT_PATH", tmp_path / "none.toml")
    assert load().config == Config()
    assert load().files == ()


def test_default_file_is_read_when_it_exists(tmp_path, monkeypatch):
    monkeypatch.setattr("appliance.config_file.DEFAULT_PATH", write(tmp_path, "[log]\nlevel = 'debug'"))
    assert load_config().log.level == "debug"


def test_drop_ins_are_merged_in_name_order_key_by_key(tmp_path):
    main = write(tmp_path, "[server]\nthreads = 7\nmax_message_mib = 9\n[log]\nlevel = 'debug'")
    second = write(tmp_path, "[server]\nthreads = 2", "conf.d/20-b.toml")
    first = write(tmp_path, "[server]\nthreads = 1\nfront_ends = 3\n[server.tls]\n", "conf.d/10-a.toml")
    write(tmp_path, "[server]\nthreads = 99", "conf.d/.90-hidden.toml")
    write(tmp_path, "[server]\nthreads = 98", "conf.d/90-a.toml.dpkg-old")
    loaded = load(main)
    server = loaded.config.server
    assert (server.threads, server.max_message_mib, server.front_ends) == (2, 9, 3)
    assert loaded.config.log.level == "debug"
    assert loaded.files == (main, first, second)
    assert loaded.origins["server.threads"] == str(second)
    assert loaded.origins["server.max_message_mib"] == str(main)


def test_lists_of_a_later_file_replace(tmp_path):
    main = write(tmp_path, "[models]\nrequired = ['a', 'b']")
    write(tmp_path, "[models]\nrequired = ['c']", "conf.d/1.toml")
    assert load_config(main).models.required == ("c",)


def test_drop_ins_of_the_default_folder_work_without_a_main_file(tmp_path, monkeypatch):
    monkeypatch.setattr("appliance.config_file.DEFAULT_PATH", tmp_path / "appliance.toml")
    write(tmp_path, "[log]\nlevel = 'error'", "conf.d/1.toml")
    assert load_config().log.level == "error"


def test_command_line_wins_and_is_named_in_errors(tmp_path):
    main = write(tmp_path, "[server]\naddress = '127.0.0.1:1'")
    assert load_config(main, {"server.address": "127.0.0.1:2"}).server.address == "127.0.0.1:2"
    message = refusal(main, **{"server.address": "nonsense"})
    assert message.startswith('command line: server.address: "nonsense" is not an address')
    assert "must be a whole number" in refusal(main, **{"server.threads": "many"})


def test_relative_paths_start_from_the_file_that_names_them(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    main = write(tmp_path, "[server]\nunix_socket = 's'\n[server.tls]\ncertificate = 'tls/c.pem'\nkey = '/abs/k.pem'")
    write(tmp_path, "[server.tls]\nclient_ca = 'ca.pem'\n[paths]\nstate = 'state'", "conf.d/1.toml")
    config = load_config(main)
    assert config.server.tls.certificate == str(tmp_path / "tls/c.pem")
    assert config.server.tls.key == "/abs/k.pem"
    assert config.server.tls.client_ca == str(tmp_path / "conf.d/ca.pem")
    assert config.state_dir == tmp_path / "conf.d/state"
    assert config.unix_socket == tmp_path / "s"


def test_relative_paths_of_the_command_line_start_from_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(write(tmp_path, "", "x/a.toml"), {"paths.state": "here"}).state_dir == tmp_path / "here"


def test_a_whole_number_will_do_where_a_number_is_expected(tmp_path):
    assert load_config(write(tmp_path, "[server]\ndrain_seconds = 3")).server.drain_seconds == 3.0


MISTAKES = [
    # text, what the message must hold
    ("[server]\nadress = 'x'", "server.adress: unknown key; did you mean server.address?"),
    ("[sever]\naddress = 'x'", "sever: unknown table; did you mean server?"),
    ("[server]\nlevel = 'info'", "server.level: unknown key; did you mean log.level?"),
    ("[log]\nzzz = 1", "log.zzz: unknown key; log may have level, format"),
    ("zzz = 1", "zzz: unknown key; the file may have server, paths, engines, models, registry, log"),
    ("[server.tls]\ncertifcate = 'x'", "server.tls.certifcate: unknown key; did you mean server.tls.certificate?"),
    ("server = 3", "server: must be a table, written [server]; got 3"),
    ("[server]\ntls = 'x'", 'server.tls: must be a table, written [server.tls]; got "x"'),
    ("[server]\naddress = 8001", "server.address: must be a string in quotes; got 8001"),
    ("[server]\ninsecure = 'yes'", 'server.insecure: must be true or false; got "yes"'),
    ("[server]\ninsecure = 1", "server.insecure: must be true or false; got 1"),
    ("[server]\nthreads = '8'", 'server.threads: must be a whole number; got "8"'),
    ("[server]\nthreads = 8.5", "server.threads: must be a whole number; got 8.5"),
    ("[server]\nthreads = true", "server.threads: must be a whole number; got true"),
    ("[server]\nthreads = 2020-01-01", "server.threads: must be a whole number; got 2020-01-01 (a date or time)"),
    ("[server]\nthreads = [1]", "server.threads: must be a whole number; got a list"),
    ("[server.threads]\nx = 1", "server.threads: must be a whole number; got a table"),
    ("[server]\ndrain_seconds = '5s'", 'server.drain_seconds: must be a number; got "5s"'),
    ("[log]\nlevel = 'inof'", 'must be one of "debug", "info", "warning", "error"; got "inof"; did you mean "info"?'),
    ("[log]\nlevel = 3", 'log.level: must be one of "debug", "info", "warning", "error"; got 3'),
    ("[models]\nrequired = 'iris'", "models.required: must be a list of strings"),
    ("[models]\nrequired = [1]", "models.required: must be a list of strings"),
    ("[models]\nrequired = ['a', 'a']", 'models.required[1]: "a" is named twice'),
    ("[models]\nrequired = ['']", "models.required[0]: a model's name has 1 to 96 characters, this one 0"),
    (f"[models]\nrequired = ['{'x' * 97}']", "this one 97"),
    ("[engines]\nproviders = 'cpu'", "engines.providers: must be a list of strings"),
    ("[engines]\nproviders = ['cuda', 'openvinno']", 'engines.providers[1]: must be one of "tensorrt", "cuda", '),
    ("[engines]\nproviders = ['cuda', 'openvinno']", 'got "openvinno"; did you mean "openvino"?'),
    ("[engines]\nproviders = ['CUDA']", 'did you mean "cuda"?'),
    ("[engines]\nproviders = ['']", 'engines.providers[0]: must be one of "tensorrt"'),
    ("[engines]\nproviders = ['cpu', 'cuda', 'cpu']", 'engines.providers[2]: "cpu" is named twice'),
    (f"[models]\nrequired = {[str(i) for i in range(1025)]}", "1025 names, at most 1024 are allowed"),
    ("[server]\nthreads = 0", "server.threads: 0 is not from 1 to 4096 (threads)"),
    ("[server]\nthreads = 4097", "server.threads: 4097 is not from 1 to 4096"),
    ("[server]\nmax_message_mib = 0", "is not from 1 to 1024 (MiB)"),
    ("[server]\nmax_message_mib = 1025", "is not from 1 to 1024 (MiB)"),
    ("[server]\nfront_ends = -1", "is not from 0 to 256"),
    ("[server]\ndrain_seconds = -0.5", "-0.5 is not from 0 to 3600 (seconds)"),
    ("[server]\ndrain_seconds = nan", "nan is not from 0 to 3600"),
    ("[server]\ndrain_seconds = inf", "inf is not from 0 to 3600"),
    ("[engines]\nthreads = 1025", "engines.threads: 1025 is not from 0 to 1024"),
    ("[engines]\nqueue_max = 0", "engines.queue_max: 0 is not from 1 to 65536"),
    ("[engines]\nload_seconds_max = 0.0", "0.0 is not from 1 to 86400"),
    ("[engines]\nstep_seconds_max = 1e9", "is not from 1 to 86400"),
    ("[server]\naddress = ''", 'server.address: "" is not an address'),
    ("[server]\naddress = '127.0.0.1'", "is not an address"),
    ("[server]\naddress = ':8001'", "is not an address"),
    ("[server]\naddress = '127.0.0.1:'", "whole number from 0 to 65535"),
    ("[server]\naddress = '127.0.0.1:65536'", "whole number from 0 to 65535"),
    ("[server]\naddress = '127.0.0.1:-1'", "whole number from 0 to 65535"),
    ("[server]\naddress = '::1:8001'", "must stand in brackets"),
    ("[server]\naddress = '[::g]:8001'", "in brackets must be an IPv6 address"),
    ("[server]\naddress = '[127.0.0.1]:8001'", "in brackets must be an IPv6 address"),
    ("[server]\naddress = '127.0.0.400:8001'", "must be an IP address or a name"),
    ("[server]\naddress = 'a b:8001'", "must be an IP address or a name"),
    ("[server]\naddress = 'http://x:8001'", "an IPv6 address must stand in brackets"),
    ("[server.tls]\ncertificate = 'c'", "server.tls.certificate: is set but server.tls.key is not"),
    ("[server.tls]\nkey = 'k'", "server.tls.key: is set but server.tls.certificate is not"),
    ("[server.tls]\nclient_ca = 'k'", "server.tls.client_ca: is set but server.tls.certificate is not"),
    ("[server.tls]\ncertificate = 'a\\u0000b'\nkey = 'k'".replace("'", '"'), "zero byte"),
    (
        f"[paths]\nruntime = '/{'r' * 107}'",
        "paths.runtime: makes the unix socket's path 123 bytes long, Linux allows 107",
    ),
    (f"[server]\nunix_socket = '/{'r' * 107}'", "server.unix_socket: makes the unix socket's path 108 bytes long"),
    ("[server]\naddress = 'x", "is not valid TOML: "),
    ("\n\n[server\n", "(at line 3"),
    ("[server]\nthreads = 1\nthreads = 2\nfront_ends = 1", "(at line 3"),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES)
def test_mistake_is_named(tmp_path, text, expected):
    file = write(tmp_path, text)
    message = refusal(file)
    assert message.startswith(f"{file}: ")
    assert expected in message


@pytest.mark.parametrize("address", ["0.0.0.0:8001", "[::]:8001", "192.0.2.7:8001", "box.example:8001", "10.0.0.1:0"])
def test_open_address_needs_tls_or_the_word(tmp_path, address):
    message = refusal(write(tmp_path, f"[server]\naddress = '{address}'"))
    assert "server.tls.certificate and server.tls.key" in message
    assert "server.insecure = true" in message
    assert load_config(write(tmp_path, f"[server]\naddress = '{address}'\ninsecure = true")).server.insecure
    tls = f"[server]\naddress = '{address}'\n[server.tls]\ncertificate = 'c'\nkey = 'k'"
    assert load_config(write(tmp_path, tls)).server.tls.key


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.9.9.9:65535", "[::1]:8001", "localhost:8001"])
def test_loopback_needs_nothing(tmp_path, address):
    assert load_config(write(tmp_path, f"[server]\naddress = '{address}'")).server.address == address


def test_error_names_the_drop_in_that_is_wrong(tmp_path):
    main = write(tmp_path, "[server]\nthreads = 5")
    drop_in = write(tmp_path, "[server]\nthreads = 5000", "conf.d/1.toml")
    assert refusal(main).startswith(f"{drop_in}: server.threads: 5000")


def test_open_address_over_drop_ins_names_the_file_of_the_address(tmp_path):
    main = write(tmp_path, "[server]\naddress = '0.0.0.0:1'\ninsecure = true")
    write(tmp_path, "[server]\ninsecure = false", "conf.d/1.toml")
    assert refusal(main).startswith(f"{main}: server.address")


def test_file_that_was_asked_for_must_exist(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.toml")


def test_folder_in_place_of_a_file(tmp_path):
    assert "cannot be read: Is a directory" in refusal(tmp_path)


def test_bytes_that_are_not_utf_8(tmp_path):
    file = tmp_path / "a.toml"
    file.write_bytes(b"[server]\n# ok\naddress = '\xff'\n")
    assert "line 3 holds bytes that are not UTF-8" in refusal(file)


def test_enormous_file(tmp_path):
    file = tmp_path / "a.toml"
    file.write_bytes(b"#" * (limits.config_file_bytes_max + 1))
    assert "is larger than" in refusal(file)


def test_too_many_drop_ins(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "config_drop_ins_max", 2)
    for number in range(3):
        write(tmp_path, "", f"conf.d/{number}.toml")
    assert "3 files, at most 2 are allowed" in refusal(write(tmp_path, ""))


def test_long_values_are_cut_in_messages(tmp_path):
    assert len(refusal(write(tmp_path, f"[log]\nlevel = '{'x' * 5000}'"))) < 400


def test_a_drop_in_that_is_about_to_be_written(tmp_path):
    file = write(tmp_path, "[server]\nthreads = 1\n")
    write(tmp_path, "[server]\nthreads = 3\n", "conf.d/60.toml")
    old = write(tmp_path, "[server]\nthreads = 9\nfront_ends = 9\n", "conf.d/50.toml")
    new = {
        old: b"[server]\nthreads = 2\naddress = '[::1]:1'\n",
        tmp_path / "conf.d" / "70.toml": b"[log]\nlevel='debug'",
    }
    loaded = load(file, pending=new)
    assert (loaded.config.server.threads, loaded.config.server.front_ends) == (3, 0)
    assert (loaded.config.server.address, loaded.config.log.level) == ("[::1]:1", "debug")
    assert [each.name for each in loaded.files] == ["appliance.toml", "50.toml", "60.toml", "70.toml"]
    assert load(tmp_path / "none.toml", pending={tmp_path / "none.toml": b""}).config.server.threads == 3
    with pytest.raises(InvalidArgument, match=r"50\.toml: server\.threads: 0 is not from"):
        load(file, pending={old: b"[server]\nthreads = 0\n", tmp_path / "conf.d" / "60.toml": b""})
