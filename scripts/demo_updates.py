#!/usr/bin/env python3
"""The updates' part of scripts/demo: releases versions of the classifier into a registry, and shows what the daemon does.

demo_updates.py prepare   the publisher's keys and the registry, an OCI layout in a folder, before the daemon starts
demo_updates.py show      a good version, one that its golden tests catch, and one that only traffic catches
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from sklearn.datasets import load_breast_cancer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from appliance.pb.inference import grpc_service_pb2 as oip  # noqa: E402 - the path comes first
from appliance.pb.inference import grpc_service_pb2_grpc as oip_grpc  # noqa: E402
from models import second  # noqa: E402

MODEL = "breast-cancer"
APPLIANCE = Path(sys.executable).parent / "appliance"
SECONDS_MAX = 60.0
LOOK_SECONDS = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("prepare", "show"))
    parser.add_argument("--folder", required=True, type=Path, help="of the publisher and the registry")
    parser.add_argument("--socket", default="", help="the daemon's unix socket")
    options = parser.parse_args()
    publisher = Publisher(options.folder.resolve())
    if options.what == "prepare":
        publisher.prepare()
    else:
        Show(publisher, options.socket).run()


class Publisher:
    """Headquarters, in a folder: `appliance publish ...` with a passphrase that is no secret."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        if not (self.folder / "publisher").is_dir():
            self.folder.mkdir(parents=True, exist_ok=True)
            self("init", "--prefix", "demo", "--registry", str(self.folder / "registry"))
            self("line", "add", MODEL)

    def release(self, make: Callable[[Path, str], Path]) -> str:
        """Releases the next version; its number."""
        version = f"1.{self._releases() + 1}.0"
        folder = make(self.folder / f"{MODEL}-{version}", version)
        self("pack", str(folder))
        self("release", MODEL, version)
        return version

    @property
    def root(self) -> Path:
        return self.folder / "publisher/metadata/1.root.json"

    def _releases(self) -> int:
        document = json.loads(self("status", "--json"))
        return sum(1 for release in document["releases"] if release["line"] == MODEL)

    def __call__(self, *arguments: str) -> str:
        return appliance("publish", *arguments, "--folder", str(self.folder / "publisher"))


class Traffic:
    """Calls without a pause, cells of all sizes in turn; counts what came of them by version."""

    def __init__(self, socket: str) -> None:
        self._rows = load_breast_cancer().data.astype(np.float32)
        self._channel = grpc.insecure_channel(f"unix:{socket}")
        self._stub = oip_grpc.GRPCInferenceServiceStub(self._channel)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.answered: Counter[str] = Counter()
        self.failed = 0

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(SECONDS_MAX)
        self._channel.close()

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            row = self._rows[number % len(self._rows)][None]
            request = oip.ModelInferRequest(model_name=MODEL)
            request.inputs.add(name="features", datatype="FP32", shape=row.shape)
            request.raw_input_contents.append(row.tobytes())
            try:
                self.answered[self._stub.ModelInfer(request).model_version] += 1
            except grpc.RpcError:
                self.failed += 1
            number += 1


class Show:
    """What an operator and a client see of three releases."""

    def __init__(self, publisher: Publisher, socket: str) -> None:
        self._publisher = publisher
        self._socket = socket

    def run(self) -> None:
        appliance("registry", "trust", str(self._publisher.root), "--yes", "--socket", self._socket)
        self._good()
        self._mistaken()
        self._fragile()

    def _good(self) -> None:
        with Traffic(self._socket) as traffic:
            version, began = self._publisher.release(second.better), time.monotonic()
            self._until(lambda: self._active() == version)
            seconds = time.monotonic() - began
            self._until(lambda: not self._probation())
        say(
            "A release: 200 trees instead of 100, signed, into a registry in a folder",
            f"fetched, verified, proven by its golden tests, switched to in {seconds:.1f} s, compared for 5 s with the one before, and kept",
            f"{_counts(traffic)}; {traffic.failed} calls failed",
        )

    def _mistaken(self) -> None:
        version = self._publisher.release(second.mistaken)
        reason = self._refused(version)
        say(
            "A bad release: exported with its classes swapped",
            f"refused, and never tried again: {reason}",
            self._runs(),
        )

    def _fragile(self) -> None:
        with Traffic(self._socket) as traffic:
            version = self._publisher.release(second.fragile)
            reason = self._refused(version)
        say(
            "A worse one: passes its golden tests, fails for large cells",
            f"taken back by itself: {reason}",
            f"{_counts(traffic)}; {traffic.failed} calls failed before it went back. {self._runs()}",
        )

    def _refused(self, version: str) -> str:
        """Waits until the version is in quarantine; why."""
        self._until(lambda: any(version in reason for reason in self._reasons()))
        reason = next(reason for reason in self._reasons() if version in reason)
        return reason.partition("it is quarantined here: ")[2].partition("; appliance")[0]

    def _reasons(self) -> list[str]:
        document = json.loads(appliance("sync", "status", "--json", "--socket", self._socket))
        return [line["reason"] for line in document["lines"] if "quarantined" in line["reason"]]

    def _active(self) -> str:
        document: dict[str, Any] = json.loads(appliance("status", "--json", "--socket", self._socket))
        return next((m["version"] for m in document["models"] if m["name"] == MODEL and m["active"]), "")

    def _probation(self) -> bool:
        document: dict[str, Any] = json.loads(appliance("status", "--json", "--socket", self._socket))
        return any(m["name"] == MODEL and m.get("probation_until_ms") for m in document["models"])

    def _runs(self) -> str:
        return f"{MODEL} {self._active()} runs"

    def _until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS_MAX
        while not reached():
            if time.monotonic() > deadline:
                sys.exit("demo: the daemon did not do it in time; its log says why")
            time.sleep(LOOK_SECONDS)


def appliance(*arguments: str) -> str:
    environment = {**os.environ, "APPLIANCE_PUBLISH_PASSPHRASE": "the demo's, and no secret"}
    done = subprocess.run([APPLIANCE, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"demo: appliance {' '.join(arguments)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def say(title: str, happened: str, seen: str) -> None:
    print(f"\n{title}\n  daemon  {happened}\n  client  {seen}", flush=True)


def _counts(traffic: Traffic) -> str:
    return ", ".join(f"{count} answers of {version}" for version, count in sorted(traffic.answered.items()))


if __name__ == "__main__":
    main()
