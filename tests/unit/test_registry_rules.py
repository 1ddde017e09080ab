"""[registry]: what is refused, by the key and with what to do."""

import pytest

from appliance.config import RegistryConfig
from appliance.registry_rules import pinned, problems


@pytest.mark.parametrize(
    "config",
    [
        RegistryConfig(),
        RegistryConfig(compare_calls=0, compare_seconds=0),
        RegistryConfig(canary_percent=5, shadow_percent=100, compare_calls=0, compare_seconds=0.5),
        RegistryConfig(url="layout:/srv/models", prefix="plant/north-1", region="eu_1", hardware=("cuda", "avx2")),
        RegistryConfig(allow=("press-*", "vad?"), deny=("*-test", "[a-c]x"), pins=("press=1.4.0", "vad=2.0.0-rc.1")),
    ],
)
def test_what_is_right(config: RegistryConfig) -> None:
    assert list(problems(config)) == []


@pytest.mark.parametrize(
    ("config", "key", "words"),
    [
        (RegistryConfig(url="ftp://models.example"), "registry.url", "must be https://HOST"),
        (RegistryConfig(url="http://models.example"), "registry.url", "is not encrypted"),
        (RegistryConfig(windows=("sometimes",)), "registry.windows[0]", "must be a time"),
        (RegistryConfig(url="layout:srv/models"), "registry.url", "must be an absolute path"),
        (RegistryConfig(url="layout:"), "registry.url", "must be an absolute path"),
        (RegistryConfig(prefix="Plant"), "registry.prefix", "lower case"),
        (RegistryConfig(prefix="plant/"), "registry.prefix", "lower case"),
        (RegistryConfig(prefix="../plant"), "registry.prefix", "lower case"),
        (RegistryConfig(channel=""), "registry.channel", "is empty"),
        (RegistryConfig(canary_percent=5, compare_calls=0, compare_seconds=0), "registry.compare_seconds", "never"),
        (RegistryConfig(channel="a b"), "registry.channel", "not one word"),
        (RegistryConfig(region="*"), "registry.region", "not one word"),
        (RegistryConfig(hardware=("cuda", "")), "registry.hardware[1]", "neither a name"),
        (RegistryConfig(allow=("Press",)), "registry.allow[0]", "neither a name"),
        (RegistryConfig(deny=("*",) * 1025), "registry.deny", "at most 1024"),
        (RegistryConfig(pins=("press",)), "registry.pins[0]", 'as in "press=1.4.0"'),
        (RegistryConfig(pins=("=1.0.0",)), "registry.pins[0]", 'as in "press=1.4.0"'),
        (RegistryConfig(pins=("press=1",)), "registry.pins[0]", "semantic version"),
        (RegistryConfig(pins=("press=1.0.0", "press=2.0.0")), "registry.pins[1]", "pinned twice"),
    ],
)
def test_what_is_wrong(config: RegistryConfig, key: str, words: str) -> None:
    found = dict(problems(config))
    assert words in found[key]


def test_pins() -> None:
    assert pinned(RegistryConfig(pins=("press=1.4.0", "vad=2.0.0"))) == {"press": "1.4.0", "vad": "2.0.0"}
