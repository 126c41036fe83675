# SPDX-License-Identifier: Apache-2.0
"""What a switch's refusals are told as: one line that says what, where and what to do."""

from __future__ import annotations

import grpc
import pytest
from finsy.proto import p4r, rpc_code, rpc_status
from google.protobuf import any_pb2
from grpc import StatusCode
from grpc.aio import Metadata

from data_flow_segment.targets.p4runtime.failures import (
    ElectionIdInUse,
    SwitchLost,
    cannot_connect,
    push_refused,
    update_errors,
)
from data_flow_segment.targets.p4runtime.operations import UpdateError
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions

OPTIONS = P4RuntimeOptions("switch1:9559", (), device_id=3, election_id=7)
AT = "switch switch1:9559, device 3: "

# what gRPC and switches say, and what is told
CONNECT = [
    (
        StatusCode.UNAVAILABLE,
        "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to"
        " connect to remote host: connect: Connection refused (111)",
        "nothing listens there: start the switch, or correct p4runtime.address",
    ),
    (
        StatusCode.UNAVAILABLE,
        "DNS resolution failed for no.such.host:9559: C-ares status is not ARES_SUCCESS",
        "the name is unknown: correct p4runtime.address",
    ),
    (
        StatusCode.UNAVAILABLE,
        "failed to connect to all addresses; last error: UNKNOWN: Trying to connect an http1.x"
        " server",
        "the server there does not speak P4Runtime (failed to connect to all addresses; last error:"
        " UNKNOWN: Trying to connect an http1.x server): correct p4runtime.address",
    ),
    (
        StatusCode.UNAVAILABLE,
        "Network is unreachable",
        "unreachable (Network is unreachable): check the network and p4runtime.address",
    ),
    (
        StatusCode.UNIMPLEMENTED,
        "",
        "a gRPC server without P4Runtime answers there: correct p4runtime.address",
    ),
    (
        StatusCode.NOT_FOUND,
        "device 3",
        "there is no such device (device 3): correct p4runtime.device_id",
    ),
    (
        StatusCode.UNAUTHENTICATED,
        "who?",
        "permission denied (who?): configure the switch to accept this agent",
    ),
    (
        StatusCode.DEADLINE_EXCEEDED,
        "",
        "no answer within 5 s: is p4runtime.address a P4Runtime switch?",
    ),
    (StatusCode.INTERNAL, "a\n b", "the switch ended the session: INTERNAL a b"),
]


@pytest.mark.parametrize(("code", "details", "told"), CONNECT)
def test_why_there_is_no_session(code: StatusCode, details: str, told: str) -> None:
    error = cannot_connect(code, details, OPTIONS, 5.0)
    assert str(error) == AT + told
    is_for_a_person = code in (StatusCode.UNIMPLEMENTED, StatusCode.UNAUTHENTICATED)
    assert isinstance(error, SwitchLost) is not is_for_a_person  # else waiting may mend it


@pytest.mark.parametrize(
    "details",
    [
        "Election id already exists",  # BMv2
        "Election ID is already used by another connection with the same role.",  # Stratum
    ],
)
def test_an_election_id_in_use(details: str) -> None:
    error = cannot_connect(StatusCode.INVALID_ARGUMENT, details, OPTIONS, 5.0)
    assert isinstance(error, ElectionIdInUse)
    assert str(error).startswith(AT + "another agent uses election_id 7: give this one another")


@pytest.mark.parametrize(
    ("code", "details", "told", "may_pass"),
    [
        (
            StatusCode.UNAVAILABLE,
            "",
            "the connection ended while the switch loaded the program",
            True,
        ),
        (
            StatusCode.PERMISSION_DENIED,
            "",
            "this agent lost the primary role while the switch",
            True,
        ),
        (
            StatusCode.DEADLINE_EXCEEDED,
            "",
            "the switch did not load the program within 60 s: restart",
            False,
        ),
        (StatusCode.UNKNOWN, "Error when trying to assign device", "there is no such dev", False),
        (
            StatusCode.INTERNAL,
            "bad",
            "the switch refused the program: INTERNAL bad: is it a",
            False,
        ),
    ],
)
def test_why_the_program_is_not_in_place(
    code: StatusCode, details: str, told: str, may_pass: bool
) -> None:
    error = push_refused(code, details, OPTIONS, 60.0)
    assert str(error).startswith(AT + told)
    assert isinstance(error, SwitchLost) is may_pass


# --- a Write's answer ----------------------------------------------------------------------------


def answer(*codes: int, octets: bytes | None = None) -> grpc.aio.AioRpcError:
    status = rpc_status.Status(code=rpc_code.UNKNOWN)
    for code in codes:
        detail = any_pb2.Any()
        detail.Pack(p4r.Error(canonical_code=code, message=f"because {code}"))
        status.details.add().CopyFrom(detail)
    value = status.SerializeToString() if octets is None else octets
    trailing = Metadata(("other", "x"), ("grpc-status-details-bin", value))
    return grpc.aio.AioRpcError(StatusCode.UNKNOWN, Metadata(), trailing, "whole")


WHOLE = UpdateError("UNKNOWN", "whole")


def test_an_error_has_its_updates_position() -> None:
    error = answer(rpc_code.OK, rpc_code.ALREADY_EXISTS, rpc_code.OK, rpc_code.RESOURCE_EXHAUSTED)
    assert update_errors(error, 4) == {
        1: UpdateError("ALREADY_EXISTS", "because 6"),
        3: UpdateError("RESOURCE_EXHAUSTED", "because 8"),
    }


def test_a_code_that_grpc_does_not_know() -> None:
    assert update_errors(answer(99), 1) == {0: UpdateError("UNKNOWN", "because 99")}


@pytest.mark.parametrize("octets", [b"\xff", b"\x1a\x04\x12\x02\x08\xff"])
def test_what_cannot_be_read_is_everybodys_error(octets: bytes) -> None:
    assert update_errors(answer(octets=octets), 1) == {0: WHOLE}


def test_too_few_details_are_everybodys_error() -> None:
    assert update_errors(answer(rpc_code.OK), 2) == {0: WHOLE, 1: WHOLE}


def test_an_answer_without_details_is_everybodys_error() -> None:
    error = grpc.aio.AioRpcError(StatusCode.UNKNOWN, Metadata(), Metadata(), "whole")
    assert update_errors(error, 2) == {0: WHOLE, 1: WHOLE}
