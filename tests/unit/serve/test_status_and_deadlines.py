import grpc
import pytest

from appliance.errors import Cancelled, Code, DeadlineExceeded
from appliance.serve import deadlines, status


@pytest.mark.parametrize("code", list(Code))
def test_every_code_has_the_status_of_its_name(code: Code) -> None:
    assert status.STATUS[code].name == code.value


def test_messages_are_cut_to_what_a_header_bears() -> None:
    assert status.shorten("short") == "short"
    assert len(status.shorten("x" * 5000)) == 2000


@pytest.mark.parametrize(
    ("remaining", "timeout_us", "expected"),
    [
        (None, 0, 0),
        (float("inf"), 0, 0),
        (9.2e18, 0, 0),
        (2.0, 0, 2_000_000_005),
        (None, 3, 3005),
        (2.0, 3, 3005),
        (1e-6, 3, 1005),
    ],
)
def test_deadline(remaining: float | None, timeout_us: int, expected: int) -> None:
    assert deadlines.deadline_ns(remaining, timeout_us, 5) == expected


def test_a_deadline_that_has_passed_is_told_at_once() -> None:
    with pytest.raises(DeadlineExceeded):
        deadlines.deadline_ns(0.0, 0, 5)


@pytest.mark.parametrize(("deadline", "now", "kind"), [(0, 5, Cancelled), (6, 5, Cancelled), (5, 5, DeadlineExceeded)])
def test_why_cancelled(deadline: int, now: int, kind: type) -> None:
    assert type(deadlines.why_cancelled(deadline, now)) is kind


def test_grpc_has_no_status_that_we_forgot() -> None:
    # Not ours to give: OK, UNKNOWN, and three that no error of the appliance means.
    others = {"OK", "UNKNOWN", "ABORTED", "OUT_OF_RANGE", "DATA_LOSS", "UNAUTHENTICATED"}
    assert {code.name for code in grpc.StatusCode} == {code.value for code in Code} | others
