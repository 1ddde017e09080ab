"""Which execution provider is taken, and what is said of the others; hardware is simulated by a runtime that has it."""

import logging

import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.base import LoadOptions
from appliance.engine.onnx import providers
from appliance.engine.onnx.providers import RUNTIME_NAMES, plan, provider_list, sentence, used
from appliance.engine.onnx.sessions import OnnxRuntime, open_session
from appliance.errors import FailedPrecondition, InvalidArgument

NAMES = list(RUNTIME_NAMES)
CPU_BUILD = ("cpu",)
GPU_BUILD = ("tensorrt", "cuda", "cpu")
DAEMON = ("cuda", "openvino", "cpu")
GPU_PACKAGE = "this onnxruntime was built without it; install onnxruntime-gpu"
OPENVINO_PACKAGE = "this onnxruntime was built without it; install onnxruntime-openvino"
BROKEN = "its libraries can't be loaded (libcublas.so.13: cannot open shared object file)"
FAILED = "it failed with this model; the line before says how"


def runtime_names(names):
    return [RUNTIME_NAMES[name] for name in names]


class Hardware:
    """A runtime built with ``built``, on a machine where ``absent`` ones have no device and ``failing`` ones throw."""

    def __init__(self, built, absent=(), failing=()):
        self.built, self.absent, self.failing = built, absent, failing
        self.made = []

    def available(self):
        return [*runtime_names(self.built), "AzureExecutionProvider"]

    def session(self, path, options, wished):
        self.made.append(wished)
        names = [providers.used([runtime]) for runtime, _ in wished]
        assert all(name in self.built for name in names)
        if names[0] in self.failing:
            raise RuntimeError(f"CUDA failure 35: driver version is insufficient, in {path}")
        session = Session()
        session.names = [name for name in names if name not in self.absent]
        return session

    def why_absent(self, provider):
        return BROKEN


class Session:
    """As much of a session as open_session looks at."""

    def get_providers(self):
        return runtime_names(self.names)


@pytest.mark.parametrize(
    ("owner", "built", "absent", "failing", "chosen", "passed"),
    [
        ((), CPU_BUILD, (), (), "cpu", {"cuda": GPU_PACKAGE, "openvino": OPENVINO_PACKAGE}),
        ((), GPU_BUILD, (), (), "cuda", {"openvino": OPENVINO_PACKAGE}),
        ((), GPU_BUILD, ("cuda",), (), "cpu", {"cuda": BROKEN, "openvino": OPENVINO_PACKAGE}),
        ((), GPU_BUILD, (), ("cuda",), "cpu", {"cuda": FAILED, "openvino": OPENVINO_PACKAGE}),
        ((), ("openvino", "cpu"), (), (), "openvino", {"cuda": GPU_PACKAGE}),
        (("tensorrt", "cuda"), GPU_BUILD, (), (), "tensorrt", {}),
        (("tensorrt", "cuda"), GPU_BUILD, (), ("tensorrt",), "cuda", {"tensorrt": FAILED}),
        (("tensorrt", "cuda"), GPU_BUILD, ("tensorrt",), (), "cuda", {"tensorrt": BROKEN}),
        (("tensorrt", "cpu"), CPU_BUILD, (), (), "cpu", {"tensorrt": GPU_PACKAGE}),
        (("cpu",), GPU_BUILD, (), (), "cpu", {}),
        (("cpu", "cuda"), GPU_BUILD, (), (), "cpu", {}),
        (("openvino", "cuda", "cpu"), GPU_BUILD, ("cuda",), (), "cpu", {"openvino": OPENVINO_PACKAGE, "cuda": BROKEN}),
    ],
)  # fmt: skip
def test_choice(bench, owner, built, absent, failing, chosen, passed):
    hardware = Hardware(built, absent, failing)
    spec = bench.spec(providers=owner)
    opened = open_session(bench.folder / "m.onnx", spec, LoadOptions(providers=DAEMON), runtime=hardware)
    assert (opened.provider, dict(opened.passed)) == (chosen, passed)
    assert [name for name, _ in opened.passed] == [name for name in owner or DAEMON if name in passed]
    assert opened.stages == (opened.session,)


@pytest.mark.parametrize(
    ("owner", "built", "absent"),
    [(("cuda",), CPU_BUILD, ()), (("tensorrt", "openvino"), CPU_BUILD, ()), (("cuda",), GPU_BUILD, ("cuda",)),
     (("tensorrt", "cuda"), GPU_BUILD, ("tensorrt", "cuda"))],
)  # fmt: skip
def test_an_owner_who_does_not_want_the_processor_does_not_get_it(bench, owner, built, absent, caplog):
    with pytest.raises(FailedPrecondition) as caught, caplog.at_level(logging.ERROR):
        open_session(bench.folder / "m.onnx", bench.spec(providers=owner), LoadOptions(providers=DAEMON),
                     runtime=Hardware(built, absent))  # fmt: skip
    assert caught.value.reason == "PROVIDER_MISSING"
    assert f"model.toml allows only {', '.join(owner)} (onnx.providers)" in caught.value.message
    assert f"there is {', '.join(built)}" in caught.value.message
    assert str(bench.folder) not in caught.value.message


def test_the_reasons_are_in_the_log_when_nothing_is_left(bench, caplog):
    with pytest.raises(FailedPrecondition):
        open_session(bench.folder / "m.onnx", bench.spec(providers=("cuda",)), LoadOptions(),
                     runtime=Hardware(GPU_BUILD, absent=("cuda",)))  # fmt: skip
    assert f"m.onnx runs on nothing; cuda: {BROKEN}" in caplog.text


def test_a_model_that_is_broken_is_broken_on_every_provider(bench):
    hardware = Hardware(GPU_BUILD, failing=("cuda", "cpu"))
    with pytest.raises(InvalidArgument) as caught:
        open_session(bench.folder / "m.onnx", bench.spec(), LoadOptions(providers=DAEMON), runtime=hardware)
    assert caught.value.reason == "MODEL_CORRUPT"
    assert [wished[0][0] for wished in hardware.made] == runtime_names(("cuda", "cpu"))


def test_what_one_provider_cannot_run_goes_to_the_next_within_the_session():
    def names(name):
        return [n for n, _ in provider_list(name, runtime_names(GPU_BUILD), threads=1, cache_dir="")]

    assert names("tensorrt") == runtime_names(("tensorrt", "cuda", "cpu"))
    assert names("cuda") == runtime_names(("cuda", "cpu"))
    assert names("cpu") == runtime_names(("cpu",))


def test_options_of_providers():
    def options(name, cache_dir="/cache"):
        return provider_list(name, runtime_names(NAMES), threads=3, cache_dir=cache_dir)[0][1]

    assert options("cuda") == {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"}
    assert options("tensorrt")["trt_engine_cache_path"] == "/cache/tensorrt"
    assert options("tensorrt", "") == {}
    openvino = {"device_type": "CPU", "precision": "ACCURACY", "num_of_threads": "3"}
    assert options("openvino") == openvino | {"cache_dir": "/cache/openvino"}
    assert options("openvino", "") == openvino
    assert options("cpu") == {}


def test_compiled_engines_are_kept_for_one_release_of_the_runtime(bench):
    hardware = Hardware(GPU_BUILD)
    cache = bench.folder / "cache"
    open_session(bench.folder / "m.onnx", bench.spec(providers=("tensorrt",)), LoadOptions(cache_dir=str(cache)),
                 runtime=hardware)  # fmt: skip
    path = hardware.made[0][0][1]["trt_engine_cache_path"]
    assert path == str(cache / f"providers-{ort.__version__}" / "tensorrt")
    assert (cache / f"providers-{ort.__version__}" / "tensorrt").stat().st_mode & 0o777 == 0o700


def test_a_cache_that_cannot_be_made_costs_only_time(bench):
    (bench.folder / "cache").write_text("a file is in the way")
    hardware = Hardware(GPU_BUILD)
    open_session(bench.folder / "m.onnx", bench.spec(providers=("tensorrt",)),
                 LoadOptions(cache_dir=str(bench.folder / "cache")), runtime=hardware)  # fmt: skip
    assert "trt_engine_cache_path" not in hardware.made[0][0][1]


lists = st.lists(st.sampled_from([*NAMES, "rocm"]), max_size=6)


@given(owner=st.lists(st.sampled_from(NAMES), max_size=5), daemon=lists, built=st.sets(st.sampled_from(NAMES)))
def test_a_plan_accounts_for_every_wish(owner, daemon, built):
    built |= {"cpu"}
    try:
        made = plan(owner, daemon, runtime_names(built))
    except FailedPrecondition:
        assert owner
        assert not set(owner) & built
        return
    assert set(made.tries) | set(made.passed) == set(made.wished)
    assert not set(made.tries) & set(made.passed)
    assert set(made.tries) <= built
    assert [name for name in made.wished if name in made.tries] == list(made.tries)
    assert set(made.wished) >= set(owner or daemon)
    if not owner:
        assert "cpu" in made.tries


def test_the_name_of_what_is_used():
    assert used(["CUDAExecutionProvider", "CPUExecutionProvider"]) == "cuda"
    assert used(["NewExecutionProvider"]) == "NewExecutionProvider"
    assert used([]) == ""


def test_one_line_of_the_log_says_it_all(bench, caplog):
    with caplog.at_level(logging.INFO):
        engine = bench.load(bench.identity(), providers=("tensorrt", "cpu"))
    lines = [r.getMessage() for r in caplog.records if "runs on" in r.getMessage()]
    assert lines == [f"m.onnx runs on cpu; tensorrt: {GPU_PACKAGE}"]
    assert engine.signature().provider == "cpu"
    assert sentence("m.onnx", "cpu", ()) == "m.onnx runs on cpu"


# --- the installed runtime -------------------------------------------------------------------------------------------


def test_a_provider_that_is_not_built_in_is_explained_by_the_linker():
    assert "can't be loaded (libonnxruntime_providers_" in OnnxRuntime().why_absent("cuda")


def test_the_installed_runtime_prints_nothing_of_its_own(bench, capfd):
    (bench.folder / "m.onnx").write_bytes(b"not a model")
    with pytest.raises(InvalidArgument):
        open_session(bench.folder / "m.onnx", bench.spec(), LoadOptions(providers=DAEMON))
    assert capfd.readouterr() == ("", "")
