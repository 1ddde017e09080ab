"""Makes the fake engine that a script asks for."""

import os
import time
from pathlib import Path

from appliance import limits
from appliance.engine.base import Engine, LoadOptions
from appliance.engine.fake.language import FakeLanguageEngine
from appliance.engine.fake.script import read_script
from appliance.engine.fake.tensor import FakeTensorEngine
from appliance.errors import InvalidArgument
from appliance.model_spec import ModelSpec


def load(spec: ModelSpec, folder: Path, options: LoadOptions) -> Engine:
    """A fake engine; raises what its script says."""
    script = read_script(spec, folder)
    time.sleep(script.load_delay_ms / 1000)
    if script.crash_on_load:
        os.abort()
    if script.refuse is not None:
        raise InvalidArgument(script.refuse.message, reason=script.refuse.reason)
    queue_max = spec.limits.max_queue or options.queue_max or limits.engine_queue_default_max
    if script.kind == "language":
        return FakeLanguageEngine(script, queue_max, spec.limits.max_tokens)
    return FakeTensorEngine(script, queue_max)
