"""A publisher's folder as a command uses it: opened, with its keys, its layout, and its registry when that is needed."""

import functools
from pathlib import Path

from appliance.clock import Clock, SystemClock
from appliance.errors import AlreadyExists, InvalidArgument
from appliance.publish.release import chunks, connect, keys, operations, pack, push, repository, requests
from appliance.publish.release.pack import Plan
from appliance.publish.release.publisher import Publisher
from appliance.publish.release.settings import Settings
from appliance.publish.release.signers import FileSigners, Passphrase
from appliance.publish.release.status import Status, status
from appliance.publish.release.upload import Registry
from appliance.publish.release.workspace import Workspace
from appliance.store.blobs import Tick, no_tick


class Session:
    """A context manager around an opened folder. Raises what Workspace raises."""

    def __init__(self, folder: Path, passphrase: Passphrase, clock: Clock | None = None) -> None:
        self._workspace = Workspace(folder)
        self.publisher = Publisher(
            self._workspace, FileSigners(self._workspace.keys, passphrase), clock or SystemClock()
        )

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self._workspace.close()

    @property
    def settings(self) -> Settings:
        """What publish.toml says."""
        return self.publisher.settings

    @functools.cached_property
    def layout(self) -> Registry:
        """The folder's own artefacts."""
        return connect.layout(self._workspace.layout)

    @functools.cached_property
    def registry(self) -> Registry:
        """Where releases go. Raises FailedPrecondition NO_REGISTRY."""
        return connect.registry(self.settings, self._workspace.folder)

    def take_over(self, root: Path | None) -> bool:
        """Takes over the registry's metadata, verified from the roots here on, else from the file ``root`` on."""
        root_file = requests.read_file(root) if root else None
        return operations.take_over(self.publisher, self.registry, root_file)

    def status(self) -> Status:
        """All that is to be known."""
        return status(self.publisher, self.registry if self.settings.registry.url else None)

    def publish(self) -> list[str]:
        """Brings the registry up to date; the names of the metadata files sent."""
        return operations.publish(self.publisher, self.layout, self.registry)

    def create_key(self, role: str) -> tuple[str, Path]:
        """A new key for a role, and the file to hand to whoever puts it there."""
        if role not in repository.TOP_ROLES and not role.startswith("models."):
            raise InvalidArgument(
                f"{role}: roles are {', '.join(repository.TOP_ROLES)} and models.LINE", reason="NO_ROLE"
            )
        key = self.publisher.signers.create(role)
        return key.keyid, self._workspace.keys / f"{keys.stem(role, key.keyid)}.pub"

    def fingerprints(self) -> list[tuple[str, str]]:
        """(role, key id) of each key that was made here."""
        found = (keys.read_public(path) for path in sorted(self._workspace.keys.glob("*.pub")))
        return [(public.role, public.key.keyid) for public in found]

    def pack(self, folder: Path, *, replace: bool, tick: Tick = no_tick) -> Plan:
        """Packs a model folder into the layout; a version that is released keeps its contents."""
        plan = pack.plan(folder, tick)
        self._check_not_released(plan)
        place = self.settings.model_repository(plan.spec.name)
        pack.put(plan, self.layout, place, replace=replace, tick=tick)
        return plan

    def _check_not_released(self, plan: Plan) -> None:
        base = self.publisher.read()
        for one in operations.released(base, plan.spec.name) if base else ():
            if one.version == plan.spec.version and one.digest != plan.artefact.digest:
                raise AlreadyExists(
                    f"{one.line} {one.version} is released with other contents: raise the version in model.toml",
                    reason="VERSION_RELEASED",
                )

    def push(self, line: str, version: str, tick: Tick = no_tick) -> push.Sent:
        """Sends one packed version, released or not; boxes take only what is released."""
        place = self.settings.model_repository(line)
        sent = push.copy(self.layout.source, self.registry.target, place, version, tick)
        chunks.send(self.layout, self.registry, place, version)
        return sent


def create(folder: Path, chosen: Settings) -> None:
    """Makes a publisher's folder; one that was begun stays as it is."""
    Workspace.create(folder, chosen)
