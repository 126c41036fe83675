# SPDX-License-Identifier: Apache-2.0
"""What a switch's refusals mean, in one line each: what, where, and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import grpc
from finsy.proto import p4r, rpc_code, rpc_status
from google.protobuf.message import DecodeError

from data_flow_segment.targets.contract import TargetError, TargetLost
from data_flow_segment.targets.p4runtime.operations import UpdateError
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions

_DETAILS: Final = "grpc-status-details-bin"

# BMv2 says "Election id already exists", Stratum "Election ID is already used by another ...".
_ELECTION_ID_IN_USE: Final = re.compile(r"election.id .*\b(used|exists)\b", re.IGNORECASE)
_NOBODY_LISTENS: Final = re.compile(
    r"connection refused|no such file|connection reset", re.IGNORECASE
)
_NAME_UNKNOWN: Final = re.compile(r"dns resolution failed|name or service|domain name", re.I)
_NOT_TRUSTED: Final = re.compile(r"certificate_verify|hostname verification", re.I)
_NO_TLS: Final = re.compile(r"wrong_version_number|packet_length_too_long", re.I)
_NOT_GRPC: Final = re.compile(r"http1|settings|preface|invalid header|socket closed|end of", re.I)


class ElectionIdInUse(TargetLost):
    """It may be this agent's own previous connection, whose end the switch has not noticed yet."""


class SwitchLost(TargetLost):
    """The connection is gone, or good for nothing."""


class NotPrimary(SwitchLost):
    """Another agent became primary before this one had begun."""


class NoP4Runtime(SwitchLost):
    """Something else listens there, or the switch is just starting or ending."""


def where(options: P4RuntimeOptions) -> str:
    """What the switch is called in every message."""
    return f"switch {options.address}, device {options.device_id}"


def cannot_connect(
    code: grpc.StatusCode, details: str, options: P4RuntimeOptions, wait_s: float
) -> TargetError:
    """Why there is no session: what came in place of the answer to the arbitration."""
    at = where(options)
    if _ELECTION_ID_IN_USE.search(details):
        return ElectionIdInUse(
            f"{at}: another agent uses election_id {options.election_id}: give this one another"
            " p4runtime.election_id (the agent with the highest is primary)"
        )
    match code:
        case grpc.StatusCode.UNAVAILABLE if _speaks_no_grpc(details):
            return NoP4Runtime(
                f"{at}: the server there does not speak P4Runtime ({one_line(details)}): correct"
                " p4runtime.address"
            )
        case grpc.StatusCode.UNAVAILABLE:
            text = _unreachable(details)
        case grpc.StatusCode.UNIMPLEMENTED:
            return TargetError(
                f"{at}: a gRPC server without P4Runtime answers there: correct p4runtime.address"
            )
        case grpc.StatusCode.NOT_FOUND:
            text = f"there is no such device ({details}): correct p4runtime.device_id"
        case grpc.StatusCode.PERMISSION_DENIED | grpc.StatusCode.UNAUTHENTICATED:
            return TargetError(
                f"{at}: permission denied ({details}): configure the switch to accept this agent"
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            text = f"no answer within {wait_s:g} s: is p4runtime.address a P4Runtime switch?"
        case _:
            text = f"the switch ended the session: {describe(code, details)}"
    return SwitchLost(f"{at}: {text}")


def _speaks_no_grpc(details: str) -> bool:
    known = any(
        each.search(details) for each in (_NOBODY_LISTENS, _NAME_UNKNOWN, _NOT_TRUSTED, _NO_TLS)
    )
    return not known and _NOT_GRPC.search(details) is not None


def _unreachable(details: str) -> str:
    if _NOT_TRUSTED.search(details):
        return (
            f"the switch's certificate is not accepted ({one_line(details)}): correct"
            " p4runtime.tls.ca_file or server_name, or the switch's certificate"
        )
    if _NO_TLS.search(details):
        return "the server there speaks no TLS: remove p4runtime.tls, or let the switch use it"
    if _NOBODY_LISTENS.search(details):
        return "nothing listens there: start the switch, or correct p4runtime.address"
    if _NAME_UNKNOWN.search(details):
        return "the name is unknown: correct p4runtime.address"
    return f"unreachable ({one_line(details)}): check the network and p4runtime.address"


def push_refused(
    code: grpc.StatusCode, details: str, options: P4RuntimeOptions, wait_s: float
) -> TargetError:
    """Why the program is not in place."""
    at = where(options)
    match code:
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            text = f"the switch did not load the program within {wait_s:g} s: restart it"
        case grpc.StatusCode.UNAVAILABLE:
            return SwitchLost(f"{at}: the connection ended while the switch loaded the program")
        case grpc.StatusCode.PERMISSION_DENIED:
            return NotPrimary(
                f"{at}: this agent lost the primary role while the switch loaded the program"
            )
        case _ if "assign device" in details:  # BMv2, which answers for every device until then
            text = f"there is no such device ({details}): correct p4runtime.device_id"
        case _:
            text = (
                f"the switch refused the program: {describe(code, details)}: is it a BMv2"
                " simple_switch_grpc (v1model) with --cpu-port 510?"
            )
    return TargetError(f"{at}: {text}")


def describe(code: grpc.StatusCode, details: str) -> str:
    """The switch's own words."""
    return f"{code.name} {one_line(details)}".strip()


def one_line(text: str) -> str:
    """gRPC's texts may have several."""
    return " ".join(text.split())[:300]


# --- a Write's answer ----------------------------------------------------------------------------


def update_errors(error: grpc.aio.AioRpcError, count: int) -> Mapping[int, UpdateError]:
    """By position.  Without details, or with too few, every update has the error of the whole."""
    whole = UpdateError(error.code().name, one_line(error.details() or ""))
    metadata = error.trailing_metadata() or ()
    told = [value for key, value in metadata if key == _DETAILS and isinstance(value, bytes)]
    try:
        details = rpc_status.Status.FromString(told[0]).details if told else ()
        if len(details) != count:
            return dict.fromkeys(range(count), whole)
        parsed = [p4r.Error.FromString(detail.value) for detail in details]
    except DecodeError:
        return dict.fromkeys(range(count), whole)
    return {
        position: UpdateError(_name(each.canonical_code), each.message)
        for position, each in enumerate(parsed)
        if each.canonical_code != rpc_code.OK
    }


def _name(code: int) -> str:
    return next((name for name, value in rpc_code.Code.items() if value == code), "UNKNOWN")
