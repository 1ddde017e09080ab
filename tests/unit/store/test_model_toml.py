"""model.toml: what is accepted, and for everything else an error that names the place, what came and what may be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import limits
from appliance.errors import InvalidArgument
from appliance.store import model_rules, model_toml
from tests.support import model_folders as folders

TENSOR_TEST = '[[golden]]\nname = "two"\ninputs = {{ x = {} }}\noutputs = {{ y = {{ data = [1] }} }}\n'
GENERATE_TEST = '[[golden]]\nname = "two"\ngenerate = {}\n'


def refused(text: str | bytes) -> str:
    with pytest.raises(InvalidArgument) as caught:
        model_toml.parse(text.encode() if isinstance(text, str) else text)
    assert caught.value.reason == "MODEL_TOML"
    assert caught.value.message.startswith("model.toml: ")
    return caught.value.message


def test_a_full_onnx_file_is_parsed() -> None:
    spec = model_toml.parse(folders.onnx_toml().encode())
    assert (spec.name, spec.version, spec.engine, spec.model_path) == ("press", "1.0.0", "onnx", "model.onnx")
    assert spec.onnx.labels == {"probabilities": "labels.txt"}
    assert spec.golden[0].outputs["y"].shape == (1, 2)


def test_a_full_llama_file_is_parsed_with_a_byte_order_mark() -> None:
    spec = model_toml.parse(b"\xef\xbb\xbf" + folders.llama_toml().encode())
    assert spec.llama.chat_template == "chat.jinja"


# (what is replaced, by what, what the message must hold)
ONNX_EDITS = [
    ('version = "1', 'verson = "1', ["verson: unknown key", "did you mean version?"]),
    ('name = "press"', "", ["name: this key is missing"]),
    ('name = "press"', "name = 7", ["name: 7 is not a string"]),
    ('name = "press"', 'name = "Press"', ['name: "Press": allowed are lower-case']),
    ('name = "press"', 'name = ""', ['name: ""']),
    ('name = "press"', 'name = "-a"', ['"-a"']),
    ('name = "press"', 'name = "a/b"', ['"a/b"']),
    ('name = "press"', 'name = "a."', ['"a."']),
    ('name = "press"', 'name = "a\\n"', ['"a\\n"']),
    ('name = "press"', f'name = "{"a" * 97}"', ["97 characters, at most 96"]),
    ('"1.0.0"', '"1.0"', ["version: '1.0' is not a semantic version"]),
    ('"1.0.0"', '"01.0.0"', ["not a semantic version"]),
    ('"1.0.0"', '"1.0.0+gpu"', ["version:", "OCI", "1.0.0-gpu"]),
    ('"1.0.0"', f'"1.0.0-{"a" * 64}"', ["70 characters, at most 64"]),
    ('"onnx"\n', '"onx"\n', ['engine: "onx", did you mean onnx?', "allowed: onnx, llama"]),
    ('role = "data"', 'rol = "data"', ["files[1].rol: unknown key, did you mean role?", "path"]),
    ('role = "data"', 'role = "wieghts"', ['files[1].role: "wieghts"', "allowed: model, preprocess"]),
    ('role = "data"', 'role = "model"', ["files: exactly one file", "got 2", "model.onnx", "weights/big.bin"]),
    ('{ path = "model.onnx" }', '{ path = "model.onnx", role = "doc" }', ["exactly one file", "got 0: none"]),
    ('path = "README.md"', "path = 3", ["files[4].path: 3 is not a string"]),
    ('path = "README.md"', 'path = "labels.txt"', ["files[4].path", "listed already as files[2]"]),
    ('path = "README.md"', 'path = "model.toml"', ["files[4].path", "always part of the model"]),
    ("labels = { probabilities", "lables = { probabilities", ["onnx.lables: unknown key, did you mean labels?"]),
    ('= "labels.txt" }\n[', '= "label.txt" }\n[', ["onnx.labels.probabilities", "did you mean labels.txt?"]),
    ('= "labels.txt" }\n[', '= "README.md" }\n[', ["onnx.labels.probabilities", '"doc"', '"labels"']),
    ('= "labels.txt" }\n[', "= 4 }\n[", ["onnx.labels.probabilities: 4 is not a string"]),
    ("[onnx]", "[onnx]\nthreads = 2.5", ["onnx.threads: 2.5 is not a whole number"]),
    ("[onnx]", "[onnx]\nthreads = -1", ["onnx.threads: -1 is out of range: 0 to 1024"]),
    ("[onnx]", "[onnx]\noptimization = true", ["onnx.optimization: true", "allowed: all, extended"]),
    ("[onnx]", "[limits]\nmemory_mib = -5\n[onnx]", ["limits.memory_mib: -5"]),
    ("[onnx]", "[llama]\nthreads = 2\n[onnx]", ["llama: options of another engine", '"onnx"']),
    ('name = "one"', 'name = " "', ["golden[0].name: is empty"]),
    ("x = {", '"x y" = { flie = 1 }, z = {', ['golden[0].inputs."x y".flie: unknown key, did you mean file?']),
    # The other tables have errors too, or none: the key that is named is that of the first error.
    (
        "x = {",
        "a = { data = [1] }, b = { data = 7 }, z = { file = 7 }, x = {",
        ["golden[0].inputs.b.data: 7 is not a list"],
    ),
    ("x = {", "a = { file = 8 }, b = { file = 7 }, x = {", ["golden[0].inputs.a.file: 8 is not a string"]),
    (
        "[1, 2], data = [0.5, 1] } }",
        "7 }, z = { data = 3 } }\n[limits]\nmemory_mib = true",
        ["golden[0].outputs.y.shape: 7"],
    ),
    (
        "x = { file",
        "ok = { data = [1] }, bad = { data = 5 }, x = { file",
        ["golden[0].inputs.bad.data: 5 is not a list"],
    ),
    ('file = "golden/x.npy"', "", ["golden[0].inputs.x: give exactly one of data and file"]),
    ('file = "golden/x.npy"', 'file = "golden/x.npy", data = [1]', ["golden[0].inputs.x: give exactly one"]),
    ('file = "golden/x.npy"', 'file = "labels.txt"', ["golden[0].inputs.x.file", "not a .npy"]),
    ('file = "golden/x.npy"', 'file = "golden/y.npy"', ["golden[0].inputs.x.file", "did you mean golden/x.npy?"]),
    ('"golden/x.npy", role = "golden"', '"golden/x.npy", role = "doc"', ["golden[0].inputs.x.file", '"golden"']),
    ('"FP32"', '"fp32"', ["golden[0].outputs.y.datatype", "did you mean FP32?", "BYTES"]),
    ("[1, 2]", "[1, 3]", ["golden[0].outputs.y.data: 2 elements", "has 3"]),
    ("[1, 2]", "[-1, 2]", ["golden[0].outputs.y.shape", "negative"]),
    ("[1, 2]", '["a", 2]', ['golden[0].outputs.y.shape[0]: "a" is not a whole number']),
    ("[1, 2]", str([1] * 17), ["golden[0].outputs.y.shape: at most 16 axes"]),
    ("[0.5, 1]", "0.5", ["golden[0].outputs.y.data: 0.5 is not a list"]),
    ('name = "one"', 'name = "one"\ntolerance = { absolute = -1.0 }', ["golden[0].tolerance.absolute: -1.0"]),
    ('name = "one"', 'name = "one"\ntolerance = { relative = nan }', ["golden[0].tolerance.relative: nan"]),
    ('name = "one"', 'name = "one"\ngenerate = { prompt = "a", contains = "b" }', ["golden[0].generate: a model of"]),
    ('licence = "Apache-2.0"', "", ["card.licence: this key is missing"]),
    ('licence = "Apache-2.0"', 'licence = "  "', ["card.licence: must say something"]),
    ("[card]", TENSOR_TEST.format('{ file = "golden/x.npy" }').replace("two", "one") + "[card]", ["golden[1].name"]),
    ("[card]", '[[golden]]\nname = "two"\n[card]', ["golden[1]: inputs are missing"]),
    ("[card]", '[[golden]]\nname = "two"\ninputs = { x = { data = [1] } }\n[card]', ["golden[1]: outputs are missing"]),
]


@pytest.mark.parametrize(
    ("old", "new", "says"), ONNX_EDITS, ids=[f"{i}-{e[2][0][:40]}" for i, e in enumerate(ONNX_EDITS)]
)
def test_an_edit_that_breaks_an_onnx_file_is_named(old: str, new: str, says: list[str]) -> None:
    text = folders.onnx_toml()
    assert old in text
    message = refused(text.replace(old, new, 1))
    for part in says:
        assert part in message


def test_of_several_errors_the_first_is_named_with_its_own_key() -> None:
    text = folders.onnx_toml().replace("x = { file", "ok = { data = [1] }, bad = { data = 5 }, x = { file")
    assert "golden[0].inputs.bad.data: 5 is not a list" in refused(text.replace("[1, 2]", "7"))


LLAMA_EDITS = [
    ('"chat.jinja"\n', '"chat.jinga"\n', ["llama.chat_template", "did you mean chat.jinja?", '"doc"']),
    ("[llama]", "[onnx]\nthreads = 1\n[llama]", ["onnx: options of another engine"]),
    ("[llama]", "[llama]\nsampling = { temperature = -0.1 }", ["llama.sampling.temperature: -0.1"]),
    ("[llama]", "[llama]\nsampling = { temperature = nan }", ["llama.sampling.temperature: nan"]),
    ("[llama]", '[llama]\nsampling = { top_p = "x" }', ['llama.sampling.top_p: "x" is not a number']),
    ("[llama]", "[llama]\nsampling = { topk = 3 }", ["llama.sampling.topk: unknown key, did you mean top_k?"]),
    ("[llama]", "[llama]\nbatch_tokens = 0", ["llama.batch_tokens: 0 is out of range: 1"]),
    ("[llama]", "[llama]\ngpu_layers = -2", ["llama.gpu_layers: -2"]),
    ('user = "Say hello"', 'user = "a", prompt = "b"', ["golden[0].generate: give exactly one of prompt"]),
    ('user = "Say hello", ', "", ["golden[0].generate: give exactly one of prompt"]),
    (', contains = "hello"', "", ["golden[0].generate: say what must come out"]),
    ('contains = "hello"', 'matches = "("', ["golden[0].generate.matches: not a regular expression"]),
    ('contains = "hello"', 'contains = "h", max_tokens = 0', ["golden[0].generate.max_tokens: 0"]),
    ("[card]", TENSOR_TEST.format("{ data = [1] }") + "[card]", ["golden[1]: a model of the engine llama"]),
    ("generate", "inputs = { x = { data = [1] } }\ngenerate", ["golden[0]: give either"]),
]


@pytest.mark.parametrize(
    ("old", "new", "says"), LLAMA_EDITS, ids=[f"{i}-{e[2][0][:40]}" for i, e in enumerate(LLAMA_EDITS)]
)
def test_an_edit_that_breaks_a_llama_file_is_named(old: str, new: str, says: list[str]) -> None:
    text = folders.llama_toml()
    assert old in text
    message = refused(text.replace(old, new, 1))
    for part in says:
        assert part in message


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "name: this key is missing"),
        (b"name = ", "not valid TOML"),
        (b"name = 'a'\nname = 'b'\nx = 1", "line 2"),
        (b"name = 'a'\n# \xff", "not UTF-8 (byte 13, line 2)"),
        (b"a = " + b"[" * 100_000, "nested too deeply"),
        (b"a = " + b"9" * 10_000, "not valid TOML"),
        (b"#" * (limits.model_toml_bytes_max + 1), "at most 1048576"),
        (b"name = 1979-05-27", "1979-05-27 is not a string"),
        (b"name = {a = 1}", "a table is not a string"),
        (b"name = [1]", "a list is not a string"),
    ],
)
def test_what_is_no_model_toml_at_all_is_refused(data: bytes, says: str) -> None:
    assert says in refused(data)


def test_too_many_files_and_tests_are_refused() -> None:
    many = "\n".join(f'{{ path = "f{i}", role = "doc" }},' for i in range(limits.files_per_model_max))
    assert "files: 1029 files" in refused(folders.onnx_toml().replace("files = [", f"files = [{many}"))
    tests = "".join(
        TENSOR_TEST.format("{ data = [1] }").replace("two", f"t{i}") for i in range(limits.golden_tests_max)
    )
    assert "golden: 65 tests" in refused(folders.onnx_toml().replace("[card]", tests + "[card]"))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", "empty"),
        ("/etc/passwd", "absolute"),
        ("../x", ".."),
        ("a/../../x", ".."),
        ("..", ".."),
        ("a//b", "component"),
        ("a/", "component"),
        ("./a", "component"),
        ("a\\b", "backslash"),
        ("a\nb", "control"),
        ("a\x00b", "control"),
        ("a\u202eb", "unprintable"),
        ("a/b/c/d/e/f/g/h/i", "9 levels"),
        ("x" * 256, "too long"),
        ("é" * 128, "too long"),
    ],
)
def test_a_path_that_could_leave_the_folder_or_confuse_is_refused(path: str, says: str) -> None:
    assert says in model_rules.path_problem(path)


@pytest.mark.parametrize("path", ["a", "a/b/c/d/e/f/g/h", "..a", "a..b", "with space.bin", "größe.txt", "x" * 255])
def test_plain_paths_are_taken(path: str) -> None:
    assert model_rules.path_problem(path) == ""


@given(st.text(max_size=40))
def test_any_text_as_a_value_gives_an_error_and_nothing_else(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:  # nothing this short has all that is required
        model_toml.parse(text.encode("utf-8", "surrogatepass"))
    assert caught.value.message.isprintable()
