"""Where things lie, and when there is a unit to write for."""

from pathlib import Path

from appliance.setup.layout import CONFIG_DIR, UNIT_DIR, layout


def test_the_services_own():
    place = layout(None, None)
    assert (place.config_dir, place.unit_dir) == (CONFIG_DIR, UNIT_DIR)
    assert str(place.drop_in) == "/etc/systemd/system/inference-appliance.service.d/50-generated.conf"
    assert str(place.settings) == "/etc/inference-appliance/conf.d/50-setup.toml"
    assert layout(CONFIG_DIR, Path("/x")).unit_dir == Path("/x")


def test_another_folder_has_no_unit_unless_one_is_named():
    assert layout(Path("/x"), None).drop_in is None
    assert layout(Path("x"), Path("/u")).config_dir == Path.cwd() / "x"
