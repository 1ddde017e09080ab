"""`appliance doctor`: each finding in a made-up machine, the whole of it on this one, and GPUs through a stand-in for NVML."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from fake_models import fake_spec

from appliance.address import parse_address
from appliance.cli import checks, checks_files, checks_plan
from appliance.cli.exit_codes import ExitCode
from appliance.config import Config, EnginesConfig, PathsConfig, ServerConfig, TlsConfig
from appliance.config_file import load
from appliance.core_plan import Load

FAKE_NVML = Path(__file__).parents[2] / "support" / "fake_nvml.c"


@pytest.fixture
def own(tmp_path, short_folder):
    """A configuration whose folders, socket and port are this test's own."""
    file = tmp_path / "appliance.toml"
    file.write_text(
        f"[server]\naddress = '127.0.0.1:0'\n[paths]\nstate = '{tmp_path / 'state'}'\nruntime = '{short_folder}'\n"
    )
    file.chmod(0o644)
    return file


def test_this_machine(cli, own):
    done = cli("doctor", "--config", own)
    assert done.code in (0, ExitCode.FAILED)
    assert max(map(len, done.out.splitlines())) <= 80
    for name in (
        "configuration",
        "state folder",
        "unix socket",
        "address",
        "processor",
        "memory",
        "disk",
        "libraries",
        "gpu",
    ):
        assert name in done.out
    document = cli("doctor", "--config", own, "--json").json
    assert {check["level"] for check in document["checks"]} <= {"ok", "warn", "bad"}
    assert all(check["advice"] for check in document["checks"] if check["level"] != "ok")
    assert "onnxruntime" in next(c["found"] for c in document["checks"] if c["name"] == "libraries")


def test_bad_configuration_is_bad_and_the_rest_is_checked_all_the_same(cli, own):
    own.write_text("[server]\nadress = 'x'")
    done = cli("doctor", "--config", own, "--json")
    assert done.code == ExitCode.FAILED
    assert done.json["verdict"] == "bad"
    assert "did you mean server.address?" in done.json["checks"][0]["found"]
    assert len(done.json["checks"]) > 5


def machine(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / {"cpuinfo": "proc/cpuinfo", "meminfo": "proc/meminfo"}.get(name, f"sys/fs/cgroup/{name}")
        path = path.with_name(path.name.replace("_", "."))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("flags", "level", "words"),
    [
        ("fpu avx avx2 fma f16c avx512f amx_int8", "ok", "avx avx2 fma f16c avx512f amx_int8"),
        ("fpu sse4_2", "warn", "without avx2, fma, f16c"),
        ("avx2x fma f16c", "warn", "without avx2"),
        ("", "warn", "without avx2"),
    ],
)
def test_processor(tmp_path, monkeypatch, flags, level, words):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    found = checks.check_processor(machine(tmp_path, cpuinfo=f"processor\t: 0\nflags\t\t: {flags}\n"))
    assert (found.level, words in found.found) == (level, True)


def test_processor_of_another_kind(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    found = checks.check_processor(machine(tmp_path, cpuinfo="Features\t: fp asimd asimddp i8mm\n"))
    assert found == ("processor", "ok", "aarch64: asimd asimddp i8mm", "")
    assert checks.check_processor(tmp_path / "none").level == "ok"


GIB = 1024 * 1024


@pytest.mark.parametrize(
    ("meminfo", "limit", "level"),
    [
        (f"MemTotal: {8 * GIB} kB\nMemAvailable: {4 * GIB} kB\n", "max", "ok"),
        (f"MemTotal: {8 * GIB} kB\nMemAvailable: {GIB // 2} kB\n", "max", "warn"),
        (f"MemTotal: {8 * GIB} kB\nMemAvailable: {GIB // 8} kB\n", "max", "bad"),
        (f"MemTotal: {8 * GIB} kB\nMemAvailable: {4 * GIB} kB\n", str(200 << 20), "bad"),
        ("nonsense\n", "max", "warn"),
        ("MemTotal:\n", "max", "warn"),
    ],
)
def test_memory(tmp_path, meminfo, limit, level):
    assert checks.check_memory(machine(tmp_path, meminfo=meminfo, memory_max=limit)).level == level


@pytest.mark.parametrize(
    ("cores", "quota", "threads", "level"),
    [(4, "max 100000", 0, "ok"), (4, "max 100000", 5, "warn"), (1, "max 100000", 0, "warn"), (4, "150000 100000", 0, "warn"),
     (4, "200000 100000", 3, "warn"), (4, "broken", 4, "ok"), (4, "1 0", 4, "ok")],
)  # fmt: skip
def test_cores(tmp_path, monkeypatch, cores, quota, threads, level):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    config = Config(engines=EnginesConfig(threads=threads))
    assert checks.check_cores(config, machine(tmp_path, cpu_max=quota)).level == level


@pytest.mark.parametrize(("free", "level"), [(100 << 20, "bad"), (1 << 30, "warn"), (10 << 30, "ok")])
def test_disk(tmp_path, monkeypatch, free, level):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": free}))
    assert checks.check_disk(Config(paths=PathsConfig(state=str(tmp_path / "a/b/c")))).level == level


def test_missing_library(monkeypatch):
    monkeypatch.setattr(checks, "_LIBRARIES", ("numpy", "no-such-library"))
    found = list(checks.check_libraries())
    assert any(c.level == "bad" and "no-such-library not installed" in c.found for c in found)


def test_configuration_that_others_may_write(own):
    own.chmod(0o666)
    assert [c.level for c in checks_files.check_config_files(load(own))] == ["ok", "warn"]


def test_folders(tmp_path):
    assert checks_files.check_folder("x", tmp_path / "none" / "deeper").level == "ok"
    assert checks_files.check_folder("x", tmp_path).level == "ok"
    tmp_path.chmod(0o777)
    assert checks_files.check_folder("x", tmp_path).level == "bad"
    tmp_path.chmod(0o700)
    (tmp_path / "file").touch()
    assert checks_files.check_folder("x", tmp_path / "file").level == "bad"
    assert checks_files.check_folder("x", tmp_path / "file" / "below").level == "bad"


def test_folder_of_somebody_else(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert checks_files.check_folder("x", tmp_path).level == "warn"


def test_socket(tmp_path, short_folder):
    def ask(path):
        raise OSError("nobody there")

    assert checks_files.check_socket(tmp_path / "none", ask)[1].level == "ok"
    (tmp_path / "file").touch()
    assert checks_files.check_socket(tmp_path / "file", ask)[1].level == "bad"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(short_folder / "s"))
    addresses, found = checks_files.check_socket(short_folder / "s", ask)
    assert (addresses, found.level) == (None, "warn")
    assert "nobody there" in found.found
    assert checks_files.check_socket(short_folder / "s", lambda _: ["a:1"])[0] == ["a:1"]


def test_port():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        address = parse_address(f"127.0.0.1:{other.getsockname()[1]}")
        other.listen()
        taken = checks_files.check_port(address, None)
        ours = checks_files.check_port(address, [str(address)])
    assert (taken.level, "ss -ltnp" in taken.advice) == ("bad", True)
    assert ours.level == "ok"
    assert checks_files.check_port(address, None).level == "ok"
    assert checks_files.check_port(parse_address("127.0.0.1:0"), None).level == "ok"
    assert checks_files.check_port(parse_address("192.0.2.1:8001"), None).level == "bad"


def test_running_daemon_is_recognised(cli, daemon, tmp_path):
    file = tmp_path / "a.toml"
    daemon.world.addresses = [daemon.address]
    file.write_text(f"[server]\naddress = '{daemon.address}'\nunix_socket = '{daemon.socket}'\n")
    found = {c["name"]: c for c in cli("doctor", "--config", file, "--json").json["checks"]}
    assert found["address"]["found"] == f"the daemon listens on {daemon.address}"
    assert found["unix socket"]["level"] == "ok"


def tls(certificate: Path, key: Path, authority: Path | str = "") -> Config:
    return Config(
        server=ServerConfig(tls=TlsConfig(certificate=str(certificate), key=str(key), client_ca=str(authority)))
    )


def test_tls(certificates, tmp_path):
    authority, certificate, key = certificates

    def level(*files):
        return [(c.level, c.found) for c in checks_files.check_tls(tls(*files))]

    assert list(checks_files.check_tls(Config())) == []
    assert level(certificate, key, authority) == [("ok", "certificate and key belong together, clients need one too")]
    assert level(authority, key)[0][0] == "bad"
    assert "mismatch" in level(authority, key)[0][1]
    missing = tmp_path / "none.pem"
    assert level(certificate, missing) == [("bad", f"{missing}: No such file or directory")]
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    assert level(junk, key)[0][0] == "bad"
    assert level(certificate, key, junk)[0][0] == "bad"
    loose = tmp_path / "loose.pem"
    loose.write_bytes(key.read_bytes())
    loose.chmod(0o644)
    assert level(certificate, loose) == [("bad", f"others may read or change {loose}")]
    of_systemd = ("server.pem", "credential:server.key")
    assert level(*of_systemd) == [
        ("ok", "credential:server.key: only the service can look at what systemd hands to it")
    ]


@pytest.fixture(scope="session")
def nvml(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("nvml")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, FAKE_NVML], check=True)
    return folder


def gpus(folder: Path, **environment: object) -> list[list[str]]:
    """What check_gpus finds in a process whose dynamic linker looks into ``folder`` first."""
    code = "import json; from appliance.cli.checks_gpu import check_gpus; print(json.dumps(list(check_gpus())))"
    settings = {f"FAKE_NVML_{name.upper()}": str(value) for name, value in environment.items()}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "LD_LIBRARY_PATH": str(folder), **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_gpus(nvml):
    first, second, *more = gpus(nvml, gpus=2)
    assert first == ["gpu 0", "ok", "NVIDIA L4, 20 GiB of 24 GiB free, driver 580.95.05, CUDA 13.1", ""]
    assert second[0] == "gpu 1"
    assert all(level == "warn" and "without CUDA" in found for _, level, found, _ in more)


def test_full_gpu(nvml):
    assert gpus(nvml, free=1 << 30)[0][1] == "warn"


@pytest.mark.parametrize(
    ("environment", "level", "words", "advice"),
    [
        ({"gpus": 0}, "ok", "no GPU", ""),
        ({"init": 9}, "warn", "Driver Not Loaded", "modprobe nvidia"),
        ({"init": 18}, "warn", "does not start", "restart the machine"),
        ({"init": 4}, "warn", "does not start", "/dev/nvidia"),
        ({"init": 999}, "warn", "does not start", "nvidia-smi"),
        ({"fail": 15}, "bad", "GPU is lost", "dmesg"),
    ],
)
def test_gpu_trouble(nvml, environment, level, words, advice):
    ((_, found_level, found, found_advice),) = gpus(nvml, **environment)
    assert (found_level, words in found, advice in found_advice) == (level, True, True)


def test_no_nvidia_driver(tmp_path):
    try:
        import ctypes

        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        assert gpus(tmp_path) == [["gpu", "ok", "no NVIDIA driver on this machine: models run on the processor", ""]]
    else:
        pytest.skip("this machine has NVIDIA's driver")


PLANS = [
    (2, 0, [], ["1 on core 0", "models of the class latency: 1 thread on cores 0-1", "class throughput: 2 threads on"]),
    (1, 0, [], ["1 on any core", "models of the class latency: 1 thread on core 0"]),
    (16, 3, [Load("a", "latency", 0, 2)], ["3 on cores 0-2", "a: 2 instances, each with 1 thread on cores 0-15"]),
    (
        16,
        4,
        [Load("a", "throughput", 0, 2), Load("b", "latency", 5)],
        ["4 on cores 0-3", "a: 2 instances, with 7 threads on cores 2-8; 7 threads on cores 9-15", "b: 5 threads on cores 0-15"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("cores", "front_ends", "loads", "words"), PLANS)
def test_plan(cores, front_ends, loads, words):
    config = Config(server=ServerConfig(front_ends=front_ends))
    found = list(checks_plan.check_plan(config, loads, range(cores)))
    assert {check.level for check in found} == {"ok"}
    for word, check in zip(words, found, strict=False):
        assert word in check.found


def test_plan_with_threads_of_the_configuration():
    config = Config(engines=EnginesConfig(threads=2))
    loads = [Load("a", "latency"), Load("b", "latency", 1)]
    found = [check.found for check in checks_plan.check_plan(config, loads, (0, 2, 3, 5))]
    assert found[1:] == ["a: 2 threads on cores 0, 2-3, 5", "b: 1 thread on cores 0, 2-3, 5"]


def test_plan_of_what_a_running_daemon_has_loaded(cli, daemon, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    file = tmp_path / "a.toml"
    file.write_text(f"[server]\nunix_socket = '{daemon.socket}'\naddress = '127.0.0.1:0'\n")
    daemon.world.add("press", "1.0.0", pid=5)
    daemon.world.add("idle", "1.0.0")
    spec = fake_spec("press", "1.0.0", instances=2)
    daemon.world.spec_json = msgspec.json.encode(spec).decode()
    found = [c["found"] for c in cli("doctor", "--config", file, "--json").json["checks"] if c["name"] == "plan"]
    assert found == ["press 1.0.0 (latency): 2 instances, each with 1 thread on cores 0-1"]


def test_plan_of_a_daemon_that_says_nothing_useful(cli, daemon, tmp_path):
    file = tmp_path / "a.toml"
    file.write_text(f"[server]\nunix_socket = '{daemon.socket}'\naddress = '127.0.0.1:0'\n")
    daemon.world.add("press", "1.0.0", pid=5)
    daemon.world.spec_json = "{}"
    found = [c["found"] for c in cli("doctor", "--config", file, "--json").json["checks"] if c["name"] == "plan"]
    assert len(found) == 2
    assert "class latency" in found[0]
