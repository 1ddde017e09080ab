from collections.abc import Iterator

import pytest
from registry_simulator import RegistrySimulator


@pytest.fixture
def registry() -> Iterator[RegistrySimulator]:
    with RegistrySimulator().running() as running:
        yield running
