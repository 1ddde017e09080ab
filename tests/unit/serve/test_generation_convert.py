"""Each field of appliance.v1 has its place in a call, and no answer is left unconstrained by mistake."""

import pytest

from appliance.answers import GenerateDone, TextPiece
from appliance.calls import Constraint
from appliance.errors import InvalidArgument
from appliance.pb.appliance.v1 import generation_pb2 as pb
from appliance.serve import generation_convert


def made(**options: object) -> "Constraint | None":
    request = pb.GenerateRequest(prompt="x", options=pb.Options(**options))  # type: ignore[arg-type]
    return generation_convert.prompt_call(request, 0, "").constraint


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        (pb.Constraint(json_schema="{}"), Constraint("json_schema", "{}")),
        (pb.Constraint(json_schema=""), Constraint("json_schema", "")),
        (pb.Constraint(json_object=True), Constraint("json")),
        (pb.Constraint(regex="a+"), Constraint("regex", "a+")),
        (pb.Constraint(lark="start: A"), Constraint("lark", "start: A")),
        (pb.Constraint(gbnf="root ::= x"), Constraint("gbnf", "root ::= x")),
        (pb.Constraint(choices=pb.Choices(texts=["a", "b"])), Constraint("choice", choices=("a", "b"))),
        (pb.Constraint(choices=pb.Choices()), Constraint("choice")),
    ],
)
def test_constraints(constraint: pb.Constraint, expected: Constraint) -> None:
    assert made(constraint=constraint) == expected


def test_every_form_of_a_constraint_is_known() -> None:
    for form in pb.Constraint.DESCRIPTOR.oneofs_by_name["form"].fields:
        value = True if form.name == "json_object" else pb.Choices(texts=["a"]) if form.name == "choices" else "x"
        assert made(constraint=pb.Constraint(**{form.name: value})) is not None  # type: ignore[arg-type]


def test_a_constraint_of_a_later_version_is_refused() -> None:
    later = pb.Constraint()
    later.MergeFromString(bytes([15 << 3 | 2, 1]) + b"x")  # field 15
    with pytest.raises(InvalidArgument, match="no form that this server knows"):
        made(constraint=later)
    assert made() is None


@pytest.mark.parametrize(
    ("choice", "tools", "expected"),
    [
        (None, 0, ""),
        (None, 1, "auto"),
        (pb.ToolChoice(mode=pb.ToolChoice.AUTO), 0, ""),
        (pb.ToolChoice(mode=pb.ToolChoice.NONE), 1, "none"),
        (pb.ToolChoice(mode=pb.ToolChoice.REQUIRED), 1, "required"),
        (pb.ToolChoice(mode=pb.ToolChoice.NAMED, name="t"), 1, "named"),
    ],
)
def test_tool_choice(choice: pb.ToolChoice | None, tools: int, expected: str) -> None:
    request = pb.ChatRequest(tool_choice=choice, tools=[pb.Tool(name="t")] * tools)
    call = generation_convert.chat_call(request, 0, "me")
    assert (call.tool_choice, call.parallel_tool_calls, call.client) == (expected, True, "me")


def test_an_unknown_tool_choice_is_refused() -> None:
    request = pb.ChatRequest()
    request.tool_choice.MergeFromString(b"\x08\x63")  # mode 99
    with pytest.raises(InvalidArgument, match="unknown mode 99"):
        generation_convert.chat_call(request, 0, "")


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", pb.Finished.STOP),
        ("length", pb.Finished.LENGTH),
        ("tool_calls", pb.Finished.TOOL_CALLS),
        ("of a later engine", pb.Finished.REASON_UNSPECIFIED),
    ],
)
def test_ends(reason: str, expected: "pb.Finished.Reason") -> None:
    response = generation_convert.done_response(
        GenerateDone(reason, 1, 2, 3_000_000, 4_000_000, 5_000_000, 6, "s", 7, 8, 9, 10)
    )
    assert response.index == 7
    assert response.finished == pb.Finished(
        reason=expected,
        usage=pb.Usage(prompt_tokens=1, completion_tokens=2),
        queue_ms=3,
        prefill_ms=4,
        decode_ms=5,
        seed=6,
        stop_string="s",
        reused_tokens=8,
        drafted_tokens=9,
        accepted_tokens=10,
    )


def test_pieces() -> None:
    assert generation_convert.piece_response(TextPiece("a", 1, index=2, reasoning="b")) == pb.GenerateResponse(
        text="a", index=2, reasoning="b"
    )
