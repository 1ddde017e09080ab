import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_files import shared_file

from appliance import limits
from appliance.errors import InvalidArgument, NotFound, ResourceExhausted
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.serve.shared_tensors import CallRegions, Place, Span, check_overlaps
from appliance.tensor_heads import TensorHead
from appliance.worker.regions import Identity, SharedRegion

A, B = Identity(1, 1), Identity(1, 2)


def span(start: int, end: int, *, output: bool = False, file: Identity = A, what: str = "x") -> Span:
    return Span(file, start, end, what, output)


@pytest.mark.parametrize(
    ("one", "other", "bad"),
    [
        (span(0, 10), span(5, 15), False),
        (span(0, 10), span(0, 10), False),
        (span(0, 10), span(9, 15, output=True), True),
        (span(0, 10), span(10, 15, output=True), False),
        (span(0, 10, output=True), span(9, 15, output=True), True),
        (span(0, 10, output=True), span(3, 4), True),
        (span(0, 10, output=True), span(0, 10, output=True, file=B), False),
    ],
)
def test_two_places(one: Span, other: Span, bad: bool) -> None:
    for spans in ([one, other], [other, one]):
        if bad:
            with pytest.raises(InvalidArgument, match="overlap in shared memory"):
                check_overlaps(spans)
        else:
            check_overlaps(spans)


@given(st.lists(st.tuples(st.sampled_from([A, B]), st.integers(0, 40), st.integers(1, 12), st.booleans()), max_size=8))
def test_as_looking_at_every_pair(drawn: list[tuple[Identity, int, int, bool]]) -> None:
    spans = [span(start, start + size, output=output, file=file) for file, start, size, output in drawn]
    overlap = any(
        a.file == b.file and a.start < b.end and b.start < a.end and (a.output or b.output)
        for a, b in itertools.combinations(spans, 2)
    )
    try:
        check_overlaps(spans)
    except InvalidArgument:
        assert overlap
    else:
        assert not overlap


def finder(*regions: SharedRegion):
    def find(name: str) -> SharedRegion:
        for region in regions:
            if region.name == name:
                return region
        raise NotFound("no such region")

    return find


def test_two_registrations_of_the_same_bytes_do_not_hide_an_overlap() -> None:
    with shared_file(bytes(1000)) as file:
        call = CallRegions(finder(file.region(1, "one"), file.region(2, "two", offset=100)))
        assert call.put("input 'x'", Place("one", 150, 10)) == (1, 150)
        assert call.put("output 'y'", Place("two", 59, 10), output=True) == (2, 159)
        assert [r.number for r in call.used] == [1, 2]
        with pytest.raises(InvalidArgument, match="input 'x' and output 'y' of this request overlap"):
            call.check()


def test_a_call_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "shared_call_bytes_max", 100)
    with shared_file(bytes(1000)) as file:
        call = CallRegions(finder(file.region()))
        call.put("input 'x'", Place("r", 0, 60))
        with pytest.raises(ResourceExhausted, match="more than 100 bytes in shared memory"):
            call.put("input 'y'", Place("r", 0, 60))


@pytest.mark.parametrize("offset", [0, 7])
def test_an_output_says_where_it_is(offset: int) -> None:
    with shared_file(bytes(1000)) as file:
        call = CallRegions(finder(file.region(3, "images", offset=100)))
        number, at = call.put("output 'y'", Place("images", offset, 50), output=True)
        output = pb.ModelInferResponse.InferOutputTensor()
        call.describe(TensorHead("y", "UINT8", (40,), 40, number, at), output.parameters)
        assert output.parameters["shared_memory_region"].string_param == "images"
        assert output.parameters["shared_memory_byte_size"].int64_param == 40
        assert ("shared_memory_offset" in output.parameters) == (offset > 0)
        assert output.parameters["shared_memory_offset"].int64_param == offset
