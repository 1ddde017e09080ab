"""A box and its headquarters: releases go to a registry in a folder, which is carried into the box's machine."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import client_models
from headquarters import Headquarters, box_config
from installed_box import Box
from running import versions
from traffic import call

REGISTRY = "/srv/models"
LINE = "press"


class Site:
    """Trusts, and takes what is released of the line "press"; ``folder`` is headquarters'."""

    def __init__(self, box: Box, folder: Path) -> None:
        self.box = box
        self._headquarters = Headquarters(folder, "", LINE)
        self._folder = folder

    def join(self) -> None:
        """Configured as this registry's box; press 1.0.0 is served after that."""
        self.box.configure("60-registry", box_config(f"layout:{REGISTRY}"))
        self.release("1.0.0", 10)
        self.box.machine.put(self._headquarters.root, "/run/root.json")
        self.box.systemctl("restart")
        self.box.machine.run("appliance", "registry", "trust", "/run/root.json", "--yes")
        self.box.eventually(lambda: self.runs("1.0.0"), what="press 1.0.0 runs")

    def release(self, version: str, constant: int, ballast_bytes: int = 0) -> None:
        """``press`` then answers 1 with 1 + ``constant``. ``ballast_bytes``: of another file, for what takes time or room."""
        ballast = '[[files]]\npath = "ballast.bin"\nrole = "doc"\n' if ballast_bytes else ""
        folder = client_models.fake(self._folder, LINE, version, ballast, constant=constant)
        if ballast:
            (folder / "ballast.bin").write_bytes(random.Random(version).randbytes(ballast_bytes))
        self._headquarters.release(folder, version)
        self._carry()

    def _carry(self) -> None:
        """What is new in the registry, the index last and at once, as a program that mirrors a layout would."""
        source, target = self._folder / "registry", self.box.machine.path(REGISTRY)
        for path in sorted(source.rglob("*"), key=lambda p: (p.name == "index.json", p)):
            inside = target / path.relative_to(source)
            if path.is_dir():
                inside.mkdir(parents=True, exist_ok=True)
            elif not inside.exists() or path.name == "index.json":
                part = inside.with_name(inside.name + ".part")
                shutil.copyfile(path, part)
                part.rename(inside)
        self.box.machine.run("chmod", "-R", "a+rX", REGISTRY)

    def runs(self, version: str) -> bool:
        return self.box.serves() and versions(self.box, LINE).get(version) == ("ready", True)

    def answer(self) -> float:
        return float(call(self.box.address, LINE).as_numpy("out_x")[0])

    def sync(self) -> Any:
        """What `appliance sync status` says."""
        return json.loads(self.box.machine.run("appliance", "sync", "status", "--json", check=False).stdout)
