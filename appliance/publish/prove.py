"""The proof of a model folder: the store's parser reads it, and a child process loads and tests it with the real engine.

A process of its own, as on a box: what crashes native code costs the child, and no inference session stays behind here.
"""

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from appliance import limits
from appliance.errors import FailedPrecondition, from_code
from appliance.store import model_folder

_LOAD_SECONDS_MAX = 300


class Proof(msgspec.Struct, frozen=True):
    """What appliance/engine/prove.py says: either ``passed``, or what went wrong."""

    passed: tuple[str, ...] = ()
    code: str = ""
    reason: str = ""
    message: str = ""


def prove(folder: Path) -> tuple[str, ...]:
    """The names of the golden tests, which all passed. Raises InvalidArgument or FailedPrecondition with what is wrong."""
    spec = model_folder.read(folder).spec
    seconds = _LOAD_SECONDS_MAX + len(spec.golden) * limits.golden_test_ms_max / 1000
    try:
        child = subprocess.run(
            [sys.executable, "-m", "appliance.engine.prove", str(folder)],
            input=msgspec.msgpack.encode(spec),
            capture_output=True,
            timeout=seconds,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    except subprocess.TimeoutExpired:
        raise FailedPrecondition(
            f"the model was not loaded and tested within {seconds:.0f} s", reason="PROOF"
        ) from None
    try:
        proof = msgspec.json.decode(child.stdout, type=Proof)
    except msgspec.DecodeError:
        last = child.stderr.decode(errors="replace").strip().splitlines()[-1:]
        how = f"died of signal {-child.returncode}" if child.returncode < 0 else f"ended with status {child.returncode}"
        raise FailedPrecondition(f"the engine's process {how} on the model. {' '.join(last)}", reason="PROOF") from None
    if proof.code:
        raise from_code(proof.code, proof.reason, proof.message)
    return proof.passed
