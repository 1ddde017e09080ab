"""Installs, configures, starts and stops MLServer 1.7.1; standard library only, so it needs no environment."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import peer_process

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "mlserver-requirements.txt"
TITLE = "MLServer 1.7.1"
# As the appliance's own default; its default is 4 MB.
MESSAGE_BYTES_MAX = 64 << 20
EXAMPLES = """examples:
  # the very same .onnx file that the appliance serves, until Ctrl-C
  scripts/bench_peers/mlserver --onnx model.onnx
  # start, measure both in turns, stop
  scripts/bench_peers/mlserver --onnx model.onnx --port 8101 -- \\
    scripts/bench_oip 127.0.0.1:8001 --model NAME --peer 127.0.0.1:8101 --peer-model peer
"""
# What MLServer's own scikit-learn runtime serves: a forest of 100 trees over 30 floats, like the demo's.
TRAIN = """
import joblib, sys
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
x, y = load_breast_cancer(return_X_y=True)
joblib.dump(RandomForestClassifier(100, random_state=0).fit(x.astype("float32"), y), sys.argv[1])
"""


def cache_folder() -> Path:
    """Where the peer's environment lives, outside the repository."""
    return peer_process.cache_folder("mlserver-1.7.1")


def write_settings(folder: Path, args: argparse.Namespace, bin_folder: Path) -> None:
    """Write MLServer's settings.json and the model's folder under ``folder``."""
    settings = {
        "debug": False,  # no access log, as in production
        "host": "127.0.0.1",
        "grpc_port": args.port,
        "grpc_max_message_length": MESSAGE_BYTES_MAX,
        "http_port": args.http_port,
        "metrics_port": args.http_port + 1,
        "parallel_workers": args.workers,
        "metrics_endpoint": "/metrics" if args.metrics else None,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    model = folder / args.model_name
    model.mkdir()
    described: dict[str, object] = {"name": args.model_name}
    if args.onnx:
        described["implementation"] = "mlserver_onnx.OnnxModel"
        described["parameters"] = {"uri": str(Path(args.onnx).resolve())}
    else:
        subprocess.run([str(bin_folder / "python"), "-c", TRAIN, str(model / "model.joblib")], check=True)
        described["implementation"] = "mlserver_sklearn.SKLearnModel"
        described["parameters"] = {"uri": "./model.joblib"}
        described["inputs"] = [{"name": "input", "datatype": "FP32", "shape": [-1, 30]}]
    (model / "model-settings.json").write_text(json.dumps(described))


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split the arguments from the command after "--"."""
    own, command = peer_process.split_command(argv)
    parser = argparse.ArgumentParser(
        prog="scripts/bench_peers/mlserver",
        description="Run MLServer 1.7.1 on loopback as the peer of a comparison.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--onnx",
        metavar="FILE",
        help="serve this file through a small runtime; without it: its own "
        "scikit-learn runtime with a forest of 100 trees over 30 floats, trained now",
    )
    parser.add_argument("--model-name", default="peer")
    parser.add_argument("--port", type=int, default=8101, help="gRPC port (default: 8101)")
    parser.add_argument("--http-port", type=int, default=8102, help="this one and the next (default: 8102)")
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        help="parallel_workers: 0 runs the model in the server's own "
        "process, its better setting for small models; its default is 1 (default here: 0)",
    )
    parser.add_argument(
        "--metrics",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="its Prometheus interceptor, on as MLServer ships",
    )
    parser.add_argument("--cpus", help="pin the server to these cores, such as 0 or 0,1")
    return parser.parse_args(own), command


def main(argv: list[str]) -> int:
    """Run it; returns the command's exit status, or 0 after Ctrl-C."""
    args, command = parse(argv)
    if args.onnx and not Path(args.onnx).is_file():
        raise SystemExit(f"--onnx: no such file: {args.onnx}")
    bin_folder = peer_process.ensure_installed(cache_folder(), REQUIREMENTS, TITLE)
    with tempfile.TemporaryDirectory(prefix="mlserver-") as temporary:
        folder = Path(temporary)
        write_settings(folder, args, bin_folder)
        return peer_process.serve(
            [str(bin_folder / "mlserver"), "start", str(folder)],
            folder,
            {**os.environ, "PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1"},
            command,
            title=TITLE,
            is_ready=lambda: peer_process.model_is_ready(args.http_port, args.model_name),
            told=f"{TITLE} serves {args.model_name!r} on 127.0.0.1:{args.port}",
            cpus=args.cpus,
        )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(sys.argv[1:]))
