"""A poll of a real registry that finds nothing new: two requests, less than 4 kB both ways, heads and handshakes included."""

from pathlib import Path

import pytest
from docker_registry import required

from tests.support.idle_polls import against_docker_registry

required("docker-registry")


@pytest.mark.parametrize(("secure", "login"), [(False, False), (False, True), (True, False)])
def test_an_idle_poll_costs_next_to_nothing(tmp_path: Path, secure: bool, login: bool) -> None:
    with against_docker_registry(tmp_path, secure=secure, login=login) as polls:
        first = polls.poll()
        assert first.bytes > 8000
        for anew in (False, True, True):
            idle = polls.poll(anew=anew)
            assert idle.requests == (0 if secure else 2)  # encrypted ones can't be counted
            assert 500 < idle.bytes < 4000
        polls.release()
        assert polls.poll().bytes > 4000
