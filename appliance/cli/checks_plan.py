"""What `appliance doctor` says of the plan of the cores: front-ends, and what each model computes with (core_plan.py)."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from appliance.cli.checks import Check
from appliance.config import Config
from appliance.core_plan import Load, Place, make_plan

# What stands for the models of a class where the daemon doesn't run to say which there are.
_CLASSES = (Load("models of the class latency", "latency"), Load("models of the class throughput", "throughput"))


def check_plan(config: Config, loaded: Sequence[Load], cores: Sequence[int] = ()) -> Iterator[Check]:
    """The front-ends, and the ``loaded`` models or, while there are none, what one of either class would get.

    ``cores`` are those that this process may use, when not given.
    """
    cores = cores or sorted(os.sched_getaffinity(0))
    loads = [_with_threads(load, config.engines.threads) for load in loaded or _CLASSES]
    plan = make_plan(cores, config.server.front_ends, loads)
    pinned = sorted({core for core in plan.front_ends if core >= 0})
    yield Check("front-ends", "ok", f"{len(plan.front_ends)} on {_cores(pinned) or 'any core'}")
    for load in loads:
        yield Check("plan", "ok", f"{load.name}: {_placed(plan.engines[load.name])}")


def loads_of(path: Path) -> list[Load]:
    """What the daemon behind this unix socket has loaded; raises what a command raises that cannot reach it."""
    import msgspec

    from appliance.cli.client import Client
    from appliance.cli.options import Target
    from appliance.model_spec import ModelSpec
    from appliance.pb.appliance.v1 import admin_pb2

    found = []
    with Client(Target(socket=path, timeout=5.0)) as client, client.failures():
        for model in client.status().models:
            if not model.pid:
                continue
            request = admin_pb2.ShowModelRequest(name=model.name, version=model.version)
            answer = client.admin.ShowModel(request, timeout=client.timeout)
            spec = msgspec.json.decode(answer.spec_json, type=ModelSpec)
            named = {"onnx": spec.onnx.threads, "llama": spec.llama.threads}.get(spec.engine, 0)
            name = f"{spec.name} {spec.version} ({spec.service_class})"
            found.append(Load(name, spec.service_class, named, spec.serving.instances))
    return found


def _with_threads(load: Load, threads: int) -> Load:
    return Load(load.name, load.service_class, load.threads or threads, load.instances)


def _placed(places: Sequence[Place]) -> str:
    """In words; instances that are placed alike in one."""
    distinct = list(dict.fromkeys(places))
    parts = [f"{place.threads} thread{'s' if place.threads > 1 else ''} on {_cores(place.cores)}" for place in distinct]
    if len(places) == 1:
        return parts[0]
    each = "each with " if len(parts) == 1 else "with "
    return f"{len(places)} instances, {each}{'; '.join(parts)}"


def _cores(cores: Sequence[int]) -> str:
    """``cores 0-3, 6``; empty for none."""
    runs: list[list[int]] = []
    for core in cores:
        if runs and runs[-1][-1] == core - 1:
            runs[-1].append(core)
        else:
            runs.append([core])
    shown = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    return f"core{'s' if len(cores) > 1 else ''} {shown}" if runs else ""
