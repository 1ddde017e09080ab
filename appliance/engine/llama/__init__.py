"""Language models in GGUF files, computed by llama.cpp. See README.md."""

from appliance.engine.llama.load import load

__all__ = ["load"]
