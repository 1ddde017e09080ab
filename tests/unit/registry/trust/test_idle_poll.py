"""A poll that finds nothing new is two requests and less than 4 kB, both ways and with all heads."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from counting_proxy import counting_proxy
from registry_simulator import RegistrySimulator

from appliance.registry.http.options import HttpOptions
from tests.support.idle_polls import Polls


@pytest.fixture
def polls(tmp_path: Path) -> Iterator[Polls]:
    with RegistrySimulator().running() as registry, counting_proxy(registry.netloc) as proxy:
        made = Polls(tmp_path, HttpOptions(url=registry.url), proxy)
        yield made
        made.close()


@pytest.mark.parametrize("anew", [False, True])
def test_an_idle_poll_costs_next_to_nothing(polls: Polls, anew: bool) -> None:
    first = polls.poll()
    assert first.requests == 7  # the next root, timestamp, snapshot, targets, three lines
    for _ in range(3):
        idle = polls.poll(anew=anew)
        assert idle.requests == 2
        assert 500 < idle.bytes < 4000
    polls.release()
    assert polls.poll().bytes > 4000
    assert polls.poll().requests == 2
