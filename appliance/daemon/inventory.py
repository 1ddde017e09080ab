"""What the supervisor knows of the store: the versions, what should run of each, and which failed to load and why."""

from collections.abc import Iterator

from appliance.daemon import wishes
from appliance.errors import NotFound
from appliance.questions import Catalogue
from appliance.semver import sort_key
from appliance.versions import BadVersion, Desired, ModelVersion

Key = tuple[str, str]


class Inventory:
    """A copy in memory of what the sync process keeps on disk, changed only after it has confirmed the change."""

    def __init__(self) -> None:
        self._stored: dict[Key, ModelVersion] = {}
        self._desired: dict[str, Desired] = {}
        self.failures: dict[Key, str] = {}

    def learn(self, catalogue: Catalogue) -> None:
        """Takes over all that is stored and desired."""
        self._stored = {(m.name, m.version): m for m in catalogue.models}
        self._desired = {d.name: d for d in catalogue.desired}

    def put(self, model: ModelVersion) -> bool:
        """A version was stored; whether it is new here."""
        new = (model.name, model.version) not in self._stored
        self._stored[model.name, model.version] = model
        return new

    def drop(self, model: ModelVersion) -> None:
        """A version was removed."""
        self._stored.pop((model.name, model.version), None)
        self.failures.pop((model.name, model.version), None)

    def wish(self, desired: Desired) -> None:
        """What should run of a model was written down."""
        self._desired[desired.name] = desired

    def find(self, name: str, version: str) -> ModelVersion:
        """A stored version; raises NotFound."""
        model = self._stored.get((name, version))
        if model is None:
            known = ", ".join(self.versions(name))
            there = f"; there is {known}" if known else ""
            raise NotFound(f"model '{name}' version '{version}' is not stored here{there}", reason="VERSION_UNKNOWN")
        return model

    def digest(self, name: str, version: str) -> str:
        """Of a version's manifest; empty when it is not stored."""
        model = self._stored.get((name, version))
        return model.digest if model else ""

    def versions(self, name: str) -> list[str]:
        """The stored versions of a model, the newest last."""
        return sorted((v for n, v in self._stored if n == name), key=sort_key)

    def newest(self, name: str) -> str:
        """The highest stored version; raises NotFound for an unknown model."""
        versions = self.versions(name)
        if not versions:
            raise NotFound(f"model '{name}' is not stored here", reason="MODEL_UNKNOWN")
        return versions[-1]

    def desired(self, name: str) -> Desired:
        """What should run of a model; of an unknown one nothing."""
        return self._desired.get(name, Desired(name))

    def all_desired(self) -> list[Desired]:
        """What should run, of all models."""
        return list(self._desired.values())

    def bad(self, model: ModelVersion) -> BadVersion | None:
        """Why the version is quarantined, if it is. Other files under the same version are another matter."""
        known = self.desired(model.name).quarantined
        return next((b for b in known if b.version == model.version and b.digest in ("", model.digest)), None)

    def probation_until_ms(self, model: ModelVersion) -> int:
        """Until when the version is on probation, in milliseconds since the Unix epoch; 0: it is not."""
        desired = self.desired(model.name)
        return desired.probation.until_ms if desired.probation and desired.active == model.version else 0

    def active_version(self, name: str) -> str:
        """The default version of a model; empty when there is none."""
        return self.desired(name).active

    def is_wanted(self, model: ModelVersion) -> bool:
        """Whether the version should be loaded."""
        return model.version in wishes.loaded(self.desired(model.name))

    def all_wanted(self) -> Iterator[Key]:
        """(name, version) of all that should be loaded, stored or not."""
        for desired in self._desired.values():
            for version in wishes.loaded(desired):
                yield desired.name, version

    def all(self) -> list[ModelVersion]:
        """All stored versions, by name and then by version, the newest last."""
        return sorted(self._stored.values(), key=lambda m: (m.name, sort_key(m.version)))
