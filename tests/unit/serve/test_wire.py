import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import limits
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.serve import convert, wire

FIELD = 7


@given(st.text(max_size=20), st.lists(st.binary(max_size=400), min_size=1, max_size=5))
def test_splitting_is_parsing(name: str, raw: list[bytes]) -> None:
    message = pb.ModelInferRequest(model_name=name, id="1")
    message.inputs.add(name="x", shape=[1, -1])
    message.raw_input_contents.extend(raw)
    split = wire.split(message.SerializeToString(), FIELD)
    assert split is not None
    assert [bytes(t) for t in split.taken] == raw
    del message.raw_input_contents[:]
    assert pb.ModelInferRequest.FromString(split.rest) == message


@given(st.binary(max_size=100))
def test_any_bytes_split_or_are_left_to_protobuf(data: bytes) -> None:
    split = wire.split(data, FIELD)
    if split is not None:
        assert sum(len(t) for t in split.taken) <= len(data)


@given(st.lists(st.binary(max_size=400), max_size=4))
def test_prefixes_write_what_protobuf_reads(raw: list[bytes]) -> None:
    data = b"".join(wire.length_prefix(6, len(r)) + r for r in raw)
    assert list(pb.ModelInferResponse.FromString(data).raw_output_contents) == raw


def test_large_requests_keep_their_tensors_where_they_are() -> None:
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="x")
    message.raw_input_contents.append(bytes(100_000))
    data = message.SerializeToString()
    parsed = convert.parse_request(data)
    assert isinstance(parsed, convert.LargeRequest)
    assert parsed.raw[0].obj is data
    assert not parsed.message.raw_input_contents


def test_an_unknown_field_of_another_kind_is_left_to_protobuf() -> None:
    assert wire.split(b"\x98\x06\x01", FIELD) is None


def test_a_length_beyond_the_end_is_left_to_protobuf() -> None:
    assert wire.split(b"\x3a\x05ab", FIELD) is None
    assert wire.split(b"\x3a\xff\xff\xff\xff\xff\xff\xff", FIELD) is None


@pytest.mark.parametrize("field", [b"\x3a\x00", b"\x2a\x00"])
def test_a_message_of_countless_fields_is_left_to_protobuf(field: bytes) -> None:
    """Eight MB of two-byte fields took ten seconds here, one by one, and a hundred times their memory."""
    assert wire.split(field * limits.split_fields_max, FIELD) is not None
    assert wire.split(field * (limits.split_fields_max + 1), FIELD) is None


@pytest.mark.parametrize(
    "field",
    [
        b"\x2a\x00",
        b"\x28\x01",
        b"\x28" + b"\xff" * 9 + b"\x01",
        b"\x2d" + bytes(4),
        b"\x29" + bytes(8),
        b"\x2b",
        b"\x2c",
    ],
    ids=["bytes", "varint", "longest varint", "32", "64", "group", "end of a group"],
)
def test_countless_fields_are_seen_before_they_become_objects(field: bytes) -> None:
    """A message of 60 MB took protobuf 4.4 s and gigabytes: thirty million empty inputs."""
    assert not wire.has_countless_fields(field * limits.message_fields_max)
    assert wire.has_countless_fields(field * (limits.message_fields_max + 1))


@given(st.binary(max_size=100))
def test_any_bytes_can_be_counted(data: bytes) -> None:
    assert not wire.has_countless_fields(data)
