"""Installs, configures, starts and stops tritonserver; standard library only, so it needs no environment."""

import argparse
import os
import platform
import shutil
import signal
import sys
import sysconfig
import tempfile
from pathlib import Path

from peer_process import cache_folder, ensure_installed, model_is_ready, serve, split_command

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "triton-requirements.txt"
TITLE = "Triton (nvidia-pytriton 0.7.0)"
EXAMPLES = """examples:
  # the very same .onnx file that the appliance serves, until Ctrl-C
  scripts/bench_peers/triton --onnx model.onnx
  # start, measure both in turns, stop
  scripts/bench_peers/triton --onnx model.onnx --port 8201 -- \\
    scripts/bench_oip 127.0.0.1:8001 --model NAME --peer 127.0.0.1:8201 --peer-model peer --peer-label triton

Python 3.8 to 3.13 with its shared library (Debian: libpython3.11), glibc 2.35 or newer, x86-64.
"""


def package(bin_folder: Path) -> Path:
    """The folder of the wheel's package in the environment; SystemExit when there is none."""
    found = next(bin_folder.parent.glob("lib/python3*/site-packages/pytriton"), None)
    if found is None:
        raise SystemExit(f"triton: the wheel is not in {bin_folder.parent}: remove that folder and start again")
    return found


def lay_out(folder: Path, args: argparse.Namespace, bin_folder: Path) -> list[str]:
    """Backend and model repository under ``folder``; returns the command that serves them.

    The backend's folder is put together anew: the stub for this interpreter must lie beside the backend's library.
    """
    wheel = package(bin_folder) / "tritonserver"
    stub = wheel / "python_backend_stubs" / ".".join(platform.python_version_tuple()[:2]) / "triton_python_backend_stub"
    if not stub.is_file():
        raise SystemExit(f"triton: the wheel has no backend stub for Python {platform.python_version()}: set PYTHON")
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True)
    for file in (*(wheel / "backends" / "python").glob("*.*"), stub):
        (backend / file.name).symlink_to(file)
    model = folder / "models" / args.model_name
    (model / "1").mkdir(parents=True)
    shutil.copy(HERE / "triton_model.py", model / "1" / "model.py")
    (model / "config.pbtxt").write_text(
        f'backend: "python"\ninstance_group [{{ count: {args.instances}, kind: KIND_CPU }}]\n'
    )
    return [
        str(wheel / "bin" / "tritonserver"), f"--model-repository={folder / 'models'}",
        f"--backend-directory={folder / 'backends'}",
        f"--backend-config=python,shm-region-prefix-name=bench-{os.getpid()}-",
        "--grpc-address=127.0.0.1", f"--grpc-port={args.port}",
        "--http-address=127.0.0.1", f"--http-port={args.http_port}",
        "--allow-metrics=false", "--allow-gpu-metrics=false", "--exit-timeout-secs=5",
    ]  # fmt: skip


def environment(args: argparse.Namespace, bin_folder: Path) -> dict[str, str]:
    """The server's libraries and the interpreter's own; the backend's stub takes the first python of PATH for its home."""
    libraries = [str(package(bin_folder).parent / "nvidia_pytriton.libs"), str(sysconfig.get_config_var("LIBDIR"))]
    return {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(filter(None, [*libraries, os.environ.get("LD_LIBRARY_PATH")])),
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "APPLIANCE_BENCH_ONNX": str(Path(args.onnx).resolve()),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split the arguments from the command after "--"."""
    own, command = split_command(argv)
    parser = argparse.ArgumentParser(
        prog="scripts/bench_peers/triton",
        description="Run tritonserver with its Python backend on loopback as the peer of a comparison.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--onnx",
        metavar="FILE",
        required=True,
        help="serve this file through ONNX Runtime in the Python backend, with Triton's dynamic batcher",
    )
    parser.add_argument("--model-name", default="peer")
    parser.add_argument("--port", type=int, default=8201, help="gRPC port (default: 8201)")
    parser.add_argument("--http-port", type=int, default=8202, help="only asked whether it is ready (default: 8202)")
    parser.add_argument("--instances", type=int, default=1, help="processes of the backend (default: 1)")
    parser.add_argument("--cpus", help="pin the server to these cores, such as 0 or 0,1")
    return parser.parse_args(own), command


def main(argv: list[str]) -> int:
    """Run it; returns the command's exit status, or 0 after Ctrl-C."""
    args, command = parse(argv)
    if not Path(args.onnx).is_file():
        raise SystemExit(f"--onnx: no such file: {args.onnx}")
    bin_folder = ensure_installed(cache_folder("triton-pytriton-0.7.0"), REQUIREMENTS, TITLE, "--no-deps")
    with tempfile.TemporaryDirectory(prefix="triton-") as temporary:
        folder = Path(temporary)
        return serve(
            lay_out(folder, args, bin_folder),
            folder,
            environment(args, bin_folder),
            command,
            title=TITLE,
            is_ready=lambda: model_is_ready(args.http_port, args.model_name),
            told=f"{TITLE} serves {args.model_name!r} on 127.0.0.1:{args.port}",
            cpus=args.cpus,
        )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(sys.argv[1:]))
