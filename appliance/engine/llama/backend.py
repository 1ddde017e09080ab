"""ggml's code for this processor: linked in (a build for this machine), or the best of several beside it (a package).

packaging/llama/all-variants.cmake makes the latter: libggml-cpu-x64.so to libggml-cpu-sapphirerapids.so, of which ggml
loads the one that says it suits best. Here is the only place that knows which of the two builds is there.
"""

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any

import llama_cpp

from appliance.errors import InternalError

_LINKED = "libggml-cpu.so"
_VARIANTS = "libggml-cpu-*.so"


def load_processor_code() -> None:
    """Loads the best variant; nothing to do where the code is linked in. Raises InternalError when none suits."""
    if (_folder() / _LINKED).exists():
        return
    ggml = _ggml()
    # Without a folder ggml would look in the interpreter's and in the current one.
    ggml.ggml_backend_load_all_from_path(os.fsencode(_folder()))
    if not _processor(ggml):
        found = ", ".join(sorted(path.name for path in _folder().glob(_VARIANTS))) or "none"
        raise InternalError(f"no code for this processor in {_folder()} (there: {found}); install the package again")


def new_threadpool() -> Any:
    """ggml_threadpool_new of the code that computes: a pool of another variant would not fit it."""
    if (_folder() / _LINKED).exists():
        return ctypes.CDLL(str(_folder() / _LINKED)).ggml_threadpool_new
    ggml = _ggml()
    address = ggml.ggml_backend_reg_get_proc_address(_processor(ggml), b"ggml_threadpool_new")
    if not address:
        raise InternalError("ggml's code for this processor has no ggml_threadpool_new")
    return ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(address)


def _processor(ggml: Any) -> Any:
    return ggml.ggml_backend_reg_by_name(b"CPU")


@cache
def _ggml() -> Any:
    ggml = ctypes.CDLL(str(_folder() / "libggml.so"))
    ggml.ggml_backend_load_all_from_path.argtypes = [ctypes.c_char_p]
    ggml.ggml_backend_load_all_from_path.restype = None
    ggml.ggml_backend_reg_by_name.argtypes = [ctypes.c_char_p]
    ggml.ggml_backend_reg_by_name.restype = ctypes.c_void_p
    # In libggml-base, which libggml brings; dlsym looks there, too.
    ggml.ggml_backend_reg_get_proc_address.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    ggml.ggml_backend_reg_get_proc_address.restype = ctypes.c_void_p
    return ggml


def _folder() -> Path:
    return Path(os.environ.get("LLAMA_CPP_LIB_PATH") or Path(llama_cpp.__file__).parent / "lib")
