"""Which stored versions there is no way back to, by the publisher's word."""

import pytest
from fake_models import fake_spec

from appliance.questions import ModelVersion
from appliance.registry.loop.word import withdrawn
from appliance.registry.trust.verified import Problem, Verified
from tests.support.sync_facts import digest_of, release

RELEASED = (release("1.0.0", 1), release("2.0.0", 2))


def stored(version: str, line: str = "press", *, brought: bool = True, digest: str = "") -> ModelVersion:
    spec = fake_spec(line, version)
    return ModelVersion(line, version, digest or digest_of(line, version), 1, "", spec, brought=brought)


@pytest.mark.parametrize(
    ("model", "problems", "expected"),
    [
        (stored("1.0.0"), (), ()),
        (stored("0.9.0"), (), (("press", "0.9.0"),)),
        # Another artefact under a version that is released.
        (stored("2.0.0", digest="sha256:other"), (), (("press", "2.0.0"),)),
        # An operator's own.
        (stored("0.9.0", brought=False), (), ()),
        # Of a line that the publisher doesn't have, or whose metadata can't be believed just now.
        (stored("0.9.0", "vad"), (), ()),
        (stored("0.9.0"), (Problem("press", "METADATA_UNTRUSTED", "a signature is wrong"),), ()),
    ],
)
def test_withdrawn(model: ModelVersion, problems: tuple[Problem, ...], expected: tuple[tuple[str, str], ...]) -> None:
    assert withdrawn(Verified(RELEASED, ("press",), (), problems), [model]) == expected
