"""The LoRA adapters of a model: loaded with it, chosen by name for each call.

An adapter changes what every layer computes: keys and values in a cache belong to the adapter they were computed with,
and a batch is computed with one adapter.
"""

import ctypes
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from appliance import events, limits
from appliance.engine.llama.adapter_check import check_adapter
from appliance.engine.llama.context import Context
from appliance.engine.llama.gguf_check import check_gguf
from appliance.engine.llama.model import LlamaModel
from appliance.engine.llama.native import C
from appliance.engine.model_files import listed_file
from appliance.errors import ApplianceError, InvalidArgument
from appliance.model_spec import ModelSpec

_log = logging.getLogger(__name__)


class Adapters:
    """The adapters of one loaded model by name; ``close`` after its contexts and before the model."""

    def __init__(self, handles: Mapping[str, Any]) -> None:
        self._handles = dict(handles)
        self.names: tuple[str, ...] = tuple(sorted(handles))
        self._selected: WeakKeyDictionary[Context, str] = WeakKeyDictionary()

    def check(self, name: str) -> None:
        """Raises InvalidArgument (ADAPTER_UNKNOWN), naming those there are, unless ``name`` is one of them or ""."""
        if name and name not in self._handles:
            known = f"known are {', '.join(self.names)}" if self.names else "this model has none"
            raise InvalidArgument(f'no adapter "{name[: limits.quoted_chars_max]}": {known}', reason="ADAPTER_UNKNOWN")

    def select(self, context: Context, name: str) -> None:
        """What ``context`` computes from now on is with the adapter ``name``, or with none ("").

        Costs nothing when that is so already; a change makes llama.cpp plan its next graph anew.
        """
        if self._selected.get(context, "") == name:
            return
        self.check(name)
        count = 1 if name else 0
        handles = (C.llama_adapter_lora_p_ctypes * 1)(self._handles.get(name))
        scales = (ctypes.c_float * 1)(1.0)
        C.llama_set_adapters_lora(context.handle, handles, count, scales)
        self._selected[context] = name

    def close(self) -> None:
        """Gives the adapters' memory back."""
        for handle in self._handles.values():
            C.llama_adapter_lora_free(handle)
        self._handles.clear()


def load_adapters(spec: ModelSpec, folder: Path, model: LlamaModel) -> Adapters:
    """Loads what model.toml lists under llama.adapters.

    Raises InvalidArgument (MODEL_FILE, MODEL_CORRUPT, ADAPTER_NAME, ADAPTER_MISMATCH, ADAPTER_NOT_LOADABLE) or
    Unimplemented, each naming the adapter.
    """
    listed = spec.llama.adapters
    if len(listed) > limits.adapters_max:
        raise InvalidArgument(f"llama.adapters names {len(listed)} adapters, at most {limits.adapters_max} are allowed")
    handles: dict[str, Any] = {}
    try:
        for name, file in listed.items():
            _check_name(name)
            handles[name] = _load(name, listed_file(spec, folder, file, "adapter"), model)
    except BaseException:
        Adapters(handles).close()
        raise
    return Adapters(handles)


def _check_name(name: str) -> None:
    if not name or len(name) > limits.adapter_name_chars_max or not name.isprintable():
        raise InvalidArgument(
            f"an adapter in llama.adapters has a name of {len(name)} characters or with unprintable ones, allowed: 1 to "
            f"{limits.adapter_name_chars_max} printable characters",
            reason="ADAPTER_NAME",
        )


def _load(name: str, path: Path, model: LlamaModel) -> Any:
    try:
        ignored = check_adapter(check_gguf(path), model.architecture, model.layout)
    except ApplianceError as error:
        raise type(error)(f'adapter "{name}": {error.message}', reason=error.reason) from None
    if ignored:
        _log.warning(
            'adapter "%s": %d norms are passed over, llama.cpp does not adapt them',
            name,
            len(ignored),
            extra=events.MODEL_LIMITED.of(),
        )
    handle = C.llama_adapter_lora_init(model.handle, os.fsencode(path))
    if not handle:
        raise InvalidArgument(
            f'adapter "{name}": llama.cpp cannot load it; the engine\'s log says why', reason="ADAPTER_NOT_LOADABLE"
        )
    return handle
