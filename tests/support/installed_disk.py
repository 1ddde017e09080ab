"""A machine's disk with our .deb installed and three models added: made once, then booted from by many machines."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import client_models
import pytest
from installed_box import Box
from machine import Machine

MODELS = ("breast-cancer", "says", "steady")


class Installed(NamedTuple):
    """What installing came to. ``disk``: for ``Machine(*disk)``; ``active``: the unit's state then."""

    said: str
    active: str
    disk: Sequence[Path]

    @contextmanager
    def box(self) -> Iterator[Box]:
        """A machine of one's own with that disk; it serves when the block begins."""
        with Machine(*self.disk) as machine:
            box = Box(machine)
            box.eventually(lambda: box.serves(*MODELS))
            yield box


@contextmanager
def installed_disk(root: Path, deb: Path, folder: Path) -> Iterator[Installed]:
    with Machine(root) as first:
        first.put(deb, "/run/appliance.deb")
        said = first.run("dpkg", "--install", "/run/appliance.deb", seconds=120)
        box = Box(first)
        # dpkg waits ten seconds at most, and a test's machine may have little of its processor.
        box.eventually(lambda: box.active != "activating")
        active = box.active
        stock(box, folder)
        first.power_off()
        yield Installed(said.stdout + said.stderr, active, first.disk())


def stock(box: Box, folder: Path) -> None:
    """Adds MODELS, as an operator would: an ONNX model, a GGUF model that says "elo w" after "h", and an echo."""
    made = (
        demo_model("breast-cancer"),
        client_models.tiny(folder, "says", script=b"helo w"),
        client_models.fake(folder, "steady"),
    )
    for model in made:
        inside = f"/run/models/{model.name}"
        box.machine.put(model, inside)
        box.machine.run("appliance", "models", "add", inside)


def demo_model(name: str) -> Path:
    """A folder that scripts/make_models made."""
    made = Path(os.environ.get("APPLIANCE_TEST_MODELS", "")) / name
    if not (made / "model.toml").exists():
        pytest.fail(f"no model {name}: run `scripts/test`, or set APPLIANCE_TEST_MODELS to a folder of demo models")
    return made
