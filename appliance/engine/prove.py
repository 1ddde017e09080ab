"""Loads a model folder, warms it up, runs its golden tests, says so: ``python -m appliance.engine.prove FOLDER``.

For whoever makes model folders and may not import engines (publish/prove.py). model.toml's parser belongs to the store,
so the parsed spec comes on standard input, in MessagePack (JSON has no NaN); the answer goes to standard output, as JSON.
"""

import sys
from pathlib import Path

import msgspec

from appliance.engine.base import LoadOptions
from appliance.engine.golden import run_golden
from appliance.engine.loading import load
from appliance.errors import ApplianceError
from appliance.model_spec import ModelSpec


def prove(folder: Path, spec: ModelSpec) -> list[str]:
    """The names of the golden tests; raises ApplianceError when the model can't be loaded or doesn't pass."""
    engine = load(spec, folder, LoadOptions())
    try:
        engine.warm_up()
        return run_golden(engine, spec, folder)
    finally:
        engine.close()


def main() -> int:
    """The exit status: 0 when an answer was written, also when it is "no"."""
    spec = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=ModelSpec)
    try:
        answer: dict[str, object] = {"passed": prove(Path(sys.argv[1]), spec)}
    except ApplianceError as error:
        answer = {"code": error.code.value, "reason": error.reason, "message": error.message}
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
