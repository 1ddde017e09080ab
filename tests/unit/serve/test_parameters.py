import pytest

from appliance import limits
from appliance.errors import InvalidArgument, Unimplemented
from appliance.serve import parameters
from appliance.serve.parameters import Options
from appliance.types import ParameterValue


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Options()),
        ({"priority": 1}, Options(priority=1)),
        ({"priority": 2**64 - 1}, Options(priority=2**64 - 1)),
        ({"timeout": 5_000}, Options(timeout_us=5_000)),
        ({"timeout": 2**63 - 1}, Options(timeout_us=366 * 86_400 * 1_000_000)),
        ({"triton_enable_empty_final_response": True}, Options(empty_final=True)),
        ({"sequence_id": 7, "sequence_start": True}, Options(model={"sequence_id": 7, "sequence_start": True})),
        ({"sequence_id": "a"}, Options(model={"sequence_id": "a"})),
        ({"mine": 1.5}, Options(model={"mine": 1.5})),
    ],
)
def test_read(given: dict[str, ParameterValue], expected: Options) -> None:
    assert parameters.read(given) == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"priority": "1"}, "'priority' must be a uint64, string '1' came"),
        ({"priority": -1}, "'priority' must be a uint64"),
        ({"priority": True}, "bool 'True' came"),
        ({"timeout": 1.5}, "'timeout' must be an int64 that is not negative, double '1.5' came"),
        ({"timeout": -1}, "'timeout' must be"),
        ({"sequence_id": True}, "'sequence_id' must be an int64 or a string"),
        ({"sequence_id": 1.0}, "'sequence_id' must be"),
        ({"sequence_start": 1}, "'sequence_start' must be a bool"),
        ({"sequence_end": "yes"}, "'sequence_end' must be a bool"),
        ({"triton_enable_empty_final_response": 1}, "must be a bool"),
        ({"triton_other": True}, "'triton_other' is not known"),
        ({str(i): 1 for i in range(limits.parameters_max + 1)}, "65 parameters came, at most 64"),
        ({"a": "x" * limits.parameter_string_bytes_max}, "has 65537 characters"),
    ],
)
def test_refused(given: dict[str, ParameterValue], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        parameters.read(given)


@pytest.mark.parametrize("value", [-1, True, 1.0, "3", 2**31])
def test_classification_of_a_wrong_type(value: ParameterValue) -> None:
    with pytest.raises(InvalidArgument, match="'classification' of output 'y' must be"):
        parameters.classification("y", {"classification": value})


def test_classification() -> None:
    assert parameters.classification("y", {"classification": 3}) == 3
    assert parameters.classification("y", {"binary_data": True}) == 0


@pytest.mark.parametrize("key", ["shared_memory_region", "shared_memory_byte_size", "shared_memory_new"])
def test_shared_memory_is_refused_and_never_ignored(key: str) -> None:
    with pytest.raises(Unimplemented, match=r"input 'x' is to be in shared memory.*server\.shared_memory = true"):
        parameters.place("input 'x'", {key: "r"}, offered=False)


def test_a_place() -> None:
    given: dict[str, ParameterValue] = {"shared_memory_region": "r", "shared_memory_byte_size": 8, "mine": 1}
    assert parameters.place("input 'x'", given, offered=True) == ("r", 0, 8)
    assert parameters.place("input 'x'", {**given, "shared_memory_offset": 3}, offered=True) == ("r", 3, 8)
    assert parameters.place("input 'x'", {"mine": 1, "classification": 3}, offered=True) is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"shared_memory_region": ""}, "'shared_memory_region' of output 'y' must be the name"),
        ({"shared_memory_region": 3}, "'shared_memory_region' of output 'y' must be the name"),
        ({"shared_memory_byte_size": 0}, "'shared_memory_byte_size' of output 'y' must be an int64 of at least 1"),
        ({"shared_memory_byte_size": -4}, "'shared_memory_byte_size'"),
        ({"shared_memory_byte_size": "4"}, "'shared_memory_byte_size'"),
        ({"shared_memory_byte_size": True}, "'shared_memory_byte_size'"),
        ({"shared_memory_byte_size": 4.0}, "'shared_memory_byte_size'"),
        ({"shared_memory_byte_size": 2**63}, "'shared_memory_byte_size'"),
        ({"shared_memory_offset": -1}, "'shared_memory_offset' of output 'y' must be an int64 of at least 0"),
        ({"shared_memory_offset": 2**64 - 1}, "'shared_memory_offset'"),
        ({"shared_memory_ofset": 1}, "'shared_memory_ofset' of output 'y' is not known"),
    ],
)
def test_a_place_that_is_none(changed: dict[str, ParameterValue], words: str) -> None:
    given: dict[str, ParameterValue] = {"shared_memory_region": "r", "shared_memory_byte_size": 8, **changed}
    with pytest.raises(InvalidArgument, match=words):
        parameters.place("output 'y'", given, offered=True)


@pytest.mark.parametrize("missing", ["shared_memory_region", "shared_memory_byte_size"])
def test_half_a_place(missing: str) -> None:
    given: dict[str, ParameterValue] = {"shared_memory_region": "r", "shared_memory_byte_size": 8}
    del given[missing]
    with pytest.raises(InvalidArgument, match=missing):
        parameters.place("output 'y'", given, offered=True)
