from pathlib import Path

import pytest
from fake_models import fake_spec, fake_version

from appliance.daemon.inventory import Inventory
from appliance.errors import NotFound
from appliance.questions import Catalogue
from appliance.versions import Desired


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    versions = ("1.0.0", "1.10.0", "1.9.0", "2.0.0-rc.1")
    models = tuple(fake_version(tmp_path / v, fake_spec("m", v)) for v in versions)
    made = Inventory()
    made.learn(Catalogue(models, (Desired("m", "1.9.0", ("1.0.0",)), Desired("gone", "1.0.0"))))
    return made


def test_versions_are_in_semver_s_order(inventory: Inventory) -> None:
    assert inventory.versions("m") == ["1.0.0", "1.9.0", "1.10.0", "2.0.0-rc.1"]
    assert inventory.newest("m") == "2.0.0-rc.1"
    assert [m.version for m in inventory.all()] == inventory.versions("m")


def test_what_is_unknown_is_named(inventory: Inventory) -> None:
    with pytest.raises(NotFound, match="'x' is not stored here"):
        inventory.newest("x")
    with pytest.raises(NotFound, match=r"'m' version '3\.0\.0' is not stored here; there is 1\.0\.0, 1\.9\.0"):
        inventory.find("m", "3.0.0")


def test_what_should_run_may_be_missing_from_the_store(inventory: Inventory) -> None:
    assert list(inventory.all_wanted()) == [("m", "1.9.0"), ("m", "1.0.0"), ("gone", "1.0.0")]
    assert inventory.is_wanted(inventory.find("m", "1.0.0"))
    assert not inventory.is_wanted(inventory.find("m", "1.10.0"))
    assert inventory.active_version("x") == ""


def test_put_and_drop(inventory: Inventory, tmp_path: Path) -> None:
    model = fake_version(tmp_path / "new", fake_spec("n", "1.0.0"))
    assert inventory.put(model)
    assert not inventory.put(model)
    inventory.failures["n", "1.0.0"] = "it broke"
    inventory.drop(model)
    assert inventory.failures == {}
    with pytest.raises(NotFound):
        inventory.find("n", "1.0.0")
