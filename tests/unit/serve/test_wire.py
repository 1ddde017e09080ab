from hypothesis import given
from hypothesis import strategies as st

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
