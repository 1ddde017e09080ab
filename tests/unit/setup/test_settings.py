"""The file of settings: what the answers make of it, and that it reads back as it was meant."""

import pytest
from setup_world import answers, layout

from appliance.config_file import load, settings_of
from appliance.errors import InvalidArgument
from appliance.setup.settings import as_toml, settings


def test_mutual(tmp_path):
    place = layout(tmp_path)
    own = settings(answers(), place, {}, own_clients=True)
    assert own == {
        "server.address": "0.0.0.0:8001",
        "server.tls.certificate": str(place.certificate),
        "server.tls.key": str(place.key),
        "server.tls.client_ca": str(place.authority),
    }
    assert settings(answers(), place, {}, own_clients=False)["server.tls.client_ca"] == str(place.client_ca)


def test_from_mutual_to_none(tmp_path):
    place = layout(tmp_path)
    before = settings(answers(), place, {}, own_clients=True)
    off = settings(answers(tls="off"), place, before, own_clients=False)
    assert off == {"server.address": "0.0.0.0:8001", "server.insecure": True}
    here = settings(answers(tls="off", address="127.0.0.1:1"), place, off, own_clients=False)
    assert here == {"server.address": "127.0.0.1:1"}
    server = settings(answers(tls="server"), place, before, own_clients=False)
    assert set(server) == {"server.address", "server.tls.certificate", "server.tls.key"}


def test_what_was_added_by_hand_stays_and_an_empty_text_takes_back(tmp_path):
    before = {"server.threads": 9, "models.required": ("iris",), "registry.url": "https://r.example"}
    found = settings(answers(registry=""), layout(tmp_path), before, own_clients=True)
    assert (found["server.threads"], found["models.required"]) == (9, ("iris",))
    assert "registry.url" not in found


def test_reads_back(tmp_path):
    values = {
        "server.address": "127.0.0.1:1",
        "models.required": ["a", "b"],
        "registry.bandwidth_kib_s": 5,
        "server.insecure": False,
        "paths.state": '/srv/a "b" \\ é',
    }
    file = tmp_path / "x.toml"
    file.write_text(as_toml(values), encoding="utf-8")
    assert settings_of(file) == values
    assert load(file).config.paths.state == values["paths.state"]
    assert settings_of(tmp_path / "none.toml") == {}


@pytest.mark.parametrize("text", ["a\nb", "a\x7fb", "\udcff"])
def test_control_codes(text):
    with pytest.raises(InvalidArgument, match=r"registry.url: .* holds a control code"):
        as_toml({"registry.url": text})
