"""Model folders for the tests of the store, and what they hold."""

from pathlib import Path

CARD = """
[card]
licence = "Apache-2.0"
source = "https://example.org/model"
intended_use = "tests"
limits = "none"
"""

ONNX = """
name = "press"
version = "1.0.0"
engine = "onnx"
files = [
  { path = "model.onnx" },
  { path = "weights/big.bin", role = "data" },
  { path = "labels.txt", role = "labels" },
  { path = "golden/x.npy", role = "golden" },
  { path = "README.md", role = "doc" },
]
[onnx]
labels = { probabilities = "labels.txt" }
[[golden]]
name = "one"
inputs = { x = { file = "golden/x.npy" } }
outputs = { y = { datatype = "FP32", shape = [1, 2], data = [0.5, 1] } }
"""

LLAMA = """
name = "talk"
version = "1.0.0"
engine = "llama"
files = [{ path = "model.gguf" }, { path = "chat.jinja", role = "doc" }]
[llama]
chat_template = "chat.jinja"
[[golden]]
name = "hello"
generate = { user = "Say hello", contains = "hello" }
"""

CONTENT = {
    "model.onnx": b"onnx bytes",
    "weights/big.bin": bytes(range(256)) * 20,
    "labels.txt": b"good\nbad\n",
    "golden/x.npy": b"npy",
    "README.md": b"# press\n",
    "model.gguf": b"gguf bytes",
    "chat.jinja": b"{{ messages }}",
}


def onnx_toml(version: str = "1.0.0", name: str = "press") -> str:
    return ONNX.replace('"press"', f'"{name}"').replace("1.0.0", version) + CARD


def llama_toml() -> str:
    return LLAMA + CARD


def make(root: Path, toml: str | None = None, **files: bytes) -> Path:
    """Writes a folder with all of CONTENT, so that a toml may list what it likes of it."""
    root.mkdir(parents=True)
    (root / "model.toml").write_text(onnx_toml() if toml is None else toml)
    for path, data in {**CONTENT, **files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root
