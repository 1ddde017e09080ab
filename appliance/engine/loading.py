"""Which package serves which kind of model file. Native libraries are imported only in the process that needs them."""

from pathlib import Path

from appliance.engine.base import Engine, Loader, LoadOptions
from appliance.model_spec import ModelSpec


def load(spec: ModelSpec, folder: Path, options: LoadOptions) -> Engine:
    """Loads the model with the engine that its model.toml names.

    Raises ApplianceError with what is wrong with the model's files.
    """
    return _loader(spec)(spec, folder, options)


def _loader(spec: ModelSpec) -> Loader:
    if spec.engine == "onnx":
        from appliance.engine.onnx.load import load as load_onnx

        return load_onnx
    if spec.engine == "llama":
        from appliance.engine.llama import load as load_llama

        return load_llama
    from appliance.engine.fake.load import load as load_fake

    return load_fake
