"""scripts/bench_echo_model: a model that does nothing, so that what is measured is the way to it and back."""

import sys
from pathlib import Path

MODEL_TOML = """name = "echo"
version = "1.0.0"
engine = "onnx"

[[files]]
path = "model.onnx"
role = "model"

[onnx]
threads = 1

[card]
description = "Gives its input back."
licence = "Apache-2.0"
source = "Made by scripts/bench_echo_model."
intended_use = "Measuring how fast large tensors travel."
limits = "Answers no question."
"""


def write(folder: Path) -> None:
    """Write model.onnx (x: FP32 [-1] to y: FP32 [-1]) and model.toml into ``folder``."""
    from onnx import TensorProto, checker, helper

    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "echo",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    # Old enough a format for any runtime of the last years, the peer's too.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "model.toml").write_text(MODEL_TOML)


def main(argv: list[str]) -> int:
    """Entry point."""
    if len(argv) != 1 or argv[0].startswith("-"):
        print("usage: scripts/bench_echo_model TARGET", file=sys.stderr)
        return 0 if argv in (["-h"], ["--help"]) else 2
    write(Path(argv[0]) / "echo")
    print(Path(argv[0]) / "echo")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
