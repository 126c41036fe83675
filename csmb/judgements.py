# SPDX-License-Identifier: Apache-2.0
"""What a message means: the input for the transition table, and what to say about it.

Every HELLO is judged again: the sender, its version, its group and whether it seals cannot change
within a connection; boot_id, role, epoch and addresses can.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from csmb import versions
from csmb.authentication import Exchange
from csmb.codec import decode
from csmb.constants import (
    ACKNOWLEDGED,
    CS_ID_MAX,
    CS_SENDS,
    DFS_ID_MIN,
    DFS_SENDS,
    FIRST_IGNORED_TYPE,
    RETRY_DUPID_S,
    RETRY_MAX_S,
    ErrorCode,
    Flag,
    MessageType,
    Role,
)
from csmb.errors import MalformedMessage
from csmb.messages import AuthChallenge, AuthResponse, AuthResult, Hello, Message
from csmb.settings import ConnectionSettings, GroupRole
from csmb.stream import Frame
from csmb.transitions import Input, State
from csmb.versions import Pair
from ssmb.addresses import IPV4_NOWHERE, is_link_local, names_a_host, to_text

OWNERS_TYPES: Final = ACKNOWLEDGED | {MessageType.GET_VS_LIST}
_NAMES: Final = {int(code): code.name for code in ErrorCode}
_VERSION_ERRORS: Final = frozenset({ErrorCode.VERS_NEW, ErrorCode.VERS_OBSOLETE})
_STRIPPED: Final = "the HELLOs were changed on the way: both sides prove theirs (TRANSCRIPT)"
_DUPLICATES: Final[dict[int, str]] = {
    ErrorCode.DUPID: " (another segment with this segment_id is alive)",
    ErrorCode.DUPADDR: " (another segment with this SSMB address is alive)",
}
# never answered with an ACK, so a malformed one ends the connection
_FATAL_IF_MALFORMED: Final = frozenset({MessageType.HELLO, MessageType.ACK})


class Standing(NamedTuple):
    """All that a judgement depends on besides the message."""

    role: Role
    settings: ConnectionSettings
    state: State
    offer: Pair  # a CS's, open or agreed
    agreed: Pair | None = None
    peer: Hello | None = None  # its last HELLO in order
    exchange: Exchange | None = None
    transcript: bytes = b""  # once agreed, if both sides want it in the proofs (12.6)

    @property
    def codec_version(self) -> int:
        """In what messages other than HELLO are written."""
        return (self.agreed or self.offer)[0][0]

    def exchange_for(self, challenge: AuthChallenge, nonce: bytes = b"") -> Exchange:
        """Return a challenge between this side and the peer."""
        assert self.peer is not None
        ids = (self.settings.segment_id, self.peer.segment_id)
        cs_id, dfs_id = ids if self.role is Role.CS else ids[::-1]
        return Exchange(
            self.settings.key, cs_id, dfs_id, challenge.challenge_id, challenge.auth_data, nonce,
            self.transcript,
        )  # fmt: skip


class Judgement(NamedTuple):
    """An input for the table, and its particulars."""

    input: Input
    reason: str = ""
    error_code: int = ErrorCode.OK
    retry_after_s: float | None = None
    versions: Pair | None = None  # what to answer or to offer next
    message: Message | None = None
    frame: Frame | None = None
    role: GroupRole | None = None  # with ROLE_CHANGED


def judge(standing: Standing, frame: Frame) -> Judgement:
    """Return what a frame means for a connection in this state."""
    return _judge(standing, frame)._replace(frame=frame)


def _judge(standing: Standing, frame: Frame) -> Judgement:
    if standing.state is State.HELLO_WAIT and frame.kind != MessageType.HELLO:
        reason = f"message type {frame.kind} before HELLO"
        return Judgement(Input.OUT_OF_PLACE, reason, ErrorCode.BADMSG)
    try:
        kind = MessageType(frame.kind)
    except ValueError:
        unknown = Input.UNKNOWN if frame.kind < FIRST_IGNORED_TYPE else Input.IGNORABLE
        return Judgement(unknown, error_code=ErrorCode.UNSUPPORTED)
    try:
        message = decode(frame.octets, standing.codec_version).message
    except MalformedMessage as error:
        what = Input.BROKEN if kind in _FATAL_IF_MALFORMED else Input.MALFORMED
        return Judgement(what, str(error), _refusal_code(standing))
    return _judge_message(standing, kind, message)._replace(message=message)


def _judge_message(standing: Standing, kind: MessageType, message: Message) -> Judgement:
    if isinstance(message, Hello):
        if standing.role is Role.CS:
            return _judge_hello_of_dfs(message, standing)
        return _judge_hello_of_cs(message, standing)
    if kind == MessageType.ACK:
        return Judgement(Input.ACK)
    if kind in (DFS_SENDS if standing.role is Role.CS else CS_SENDS):
        if kind in OWNERS_TYPES:
            return Judgement(Input.PAYLOAD, error_code=_refusal_code(standing))
        if standing.state is State.AUTH_WAIT:
            return _judge_authentication(message, standing)
    return Judgement(Input.OUT_OF_PLACE, error_code=_refusal_code(standing))


def _refusal_code(standing: Standing) -> ErrorCode:
    """What an ACK says to a message that is not obeyed."""
    return ErrorCode.BADMSG if standing.state is State.READY else ErrorCode.NOTAUTH


# --- authentication ---


def _judge_authentication(message: Message, standing: Standing) -> Judgement:
    """AUTH_* in AUTH_WAIT, from the role that may send it."""
    exchange = standing.exchange
    if isinstance(message, AuthChallenge):
        if exchange is None and standing.exchange_for(message).accepts_challenge(message):
            return Judgement(Input.CHALLENGE)
        reason = (
            "a second challenge" if exchange else f"auth_alg {message.auth_alg} is not supported"
        )
        return Judgement(Input.CHALLENGE_WRONG, reason, ErrorCode.BADMSG, RETRY_MAX_S)
    if isinstance(message, AuthResponse):
        if exchange is not None and exchange.accepts_response(message):
            return Judgement(Input.RESPONSE)
        reason = _unproved("DFS", standing)
        return Judgement(Input.RESPONSE_WRONG, reason, ErrorCode.AUTHFAIL, RETRY_MAX_S)
    assert isinstance(message, AuthResult)
    if exchange is not None and exchange.accepts_result(message):
        return Judgement(Input.RESULT)
    refused = f"the CS refused the connection: {error_name(message.error_code)}"
    reason = refused if message.error_code else _unproved("CS", standing)
    return Judgement(Input.RESULT_WRONG, reason, ErrorCode.AUTHFAIL, RETRY_MAX_S)


def _unproved(peer: str, standing: Standing) -> str:
    changed = ", or the HELLOs were changed on the way" if standing.transcript else ""
    return f"authentication failed: the {peer} has a different key{changed}"


# --- HELLO ---


def pair_of(hello: Hello) -> Pair:
    """Return the versions that a HELLO names."""
    return (hello.vers_major, hello.vers_minor), (hello.ssmb_vers_major, hello.ssmb_vers_minor)


def error_name(code: int) -> str:
    """Return an error code as 7.6 writes it."""
    return _NAMES.get(code, f"error {code}")


def _judge_hello_of_cs(hello: Hello, standing: Standing) -> Judgement:
    """What a DFS makes of it."""
    settings, agreed = standing.settings, standing.agreed
    if hello.error_code:
        return _refusal("CS", hello)
    if not 1 <= hello.segment_id <= CS_ID_MAX:
        return _refused(f"segment_id {hello.segment_id} is not that of a control segment")
    if _was_stripped(hello, standing):
        return _refused(_STRIPPED, ErrorCode.AUTHFAIL)
    fault = _seal_fault(hello, settings) or _change(hello, standing.peer) or _address_fault(hello)
    if not fault and standing.peer and hello.group_id != standing.peer.group_id:
        fault = f"group_id changes from {standing.peer.group_id} to {hello.group_id}"
    if fault:
        return _refused(fault)
    offered = pair_of(hello)
    if agreed is not None and offered != agreed:
        return _refused(f"the version changes from {agreed} to {offered} within a connection")
    if agreed is None:
        code, answered = _answer(offered, hello, settings)
        if code:
            return Judgement(Input.HELLO_OTHER_VERSION, error_code=code, versions=answered)
    return _ask_owner(hello, settings)


def judge_held_hello(standing: Standing) -> Judgement:
    """Ask a DFS's owner again about the HELLO that it held."""
    assert standing.peer is not None
    return _ask_owner(standing.peer, standing.settings)._replace(message=standing.peer)


def _ask_owner(hello: Hello, settings: ConnectionSettings) -> Judgement:
    code = settings.accept_hello(hello)
    if code is None:
        return Judgement(Input.HELLO_HELD)
    if code == ErrorCode.OK:
        return Judgement(Input.HELLO, versions=pair_of(hello))
    if code == ErrorCode.NOTACTIVE:
        return Judgement(Input.HELLO_NOTACTIVE, error_code=code, versions=pair_of(hello))
    return _refused(f"this DFS refused CS {hello.segment_id}: {error_name(code)}", code)


def _answer(offered: Pair, hello: Hello, settings: ConnectionSettings) -> tuple[ErrorCode, Pair]:
    """Negotiate; a group that already speaks one SSMB version is held to it (7.8)."""
    only = settings.group_ssmb_version(hello)
    ssmb = settings.ssmb_versions if only is None else (only,)
    code, answered = versions.answer(offered, settings.csmb_versions, ssmb)
    if code == ErrorCode.OK and only is not None and offered[1] != only:
        return ErrorCode.VERS_OBSOLETE, (offered[0], only)  # a lower minor would do, but not here
    return code, answered


def _judge_hello_of_dfs(hello: Hello, standing: Standing) -> Judgement:
    """What a CS makes of it."""
    settings, agreed, offer = standing.settings, standing.agreed, standing.offer
    if hello.segment_id < DFS_ID_MIN:
        return _refused(f"segment_id {hello.segment_id} is not that of a data flow segment")
    if _was_stripped(hello, standing):
        return _refused(_STRIPPED, ErrorCode.AUTHFAIL)
    fault = _seal_fault(hello, settings) or _change(hello, standing.peer)
    if fault:
        return _refused(fault)
    if hello.error_code in _VERSION_ERRORS and agreed is None:
        return _next_offer(hello, settings, offer)
    if hello.error_code not in (ErrorCode.OK, ErrorCode.NOTACTIVE):
        return _refusal("DFS", hello)
    if fault := _address_fault(hello):
        return _refused(fault)
    if agreed is None and (pair_of(hello), hello.group_id) != (offer, settings.group_id):
        return Judgement(Input.HELLO_UNSOLICITED)  # an answer repeats the CS's offer
    if hello.error_code == ErrorCode.NOTACTIVE:
        return Judgement(Input.HELLO_NOTACTIVE, versions=agreed or offer)
    return Judgement(Input.HELLO, versions=agreed or offer)


def _next_offer(hello: Hello, settings: ConnectionSettings, offer: Pair) -> Judgement:
    lower = versions.next_offer(
        offer, hello.error_code, pair_of(hello), settings.csmb_versions, settings.ssmb_versions
    )
    if lower is None:
        reason = f"no common version: this CS offered {offer}, the DFS answered {pair_of(hello)}"
        return _refused(reason, hello.error_code)
    return Judgement(Input.HELLO_OTHER_VERSION, versions=lower)


def _address_fault(hello: Hello) -> str:
    """Of the version of SSMB that it names; of a higher offer, by the answer (7.8)."""
    if IPV4_NOWHERE in (hello.ssmb_ipaddr6, hello.ssmb_standby_ipaddr6):
        return "::ffff:0.0.0.0 is no address for SSMB"
    address, port = hello.ssmb_address(hello.ssmb_vers_major), hello.ssmb_port
    if not names_a_host(address) or is_link_local(address):
        return f"{to_text(address)} is no address for SSMB {hello.ssmb_vers_major}"
    return "" if port else "0 is no port for SSMB"


def _seal_fault(hello: Hello, settings: ConnectionSettings) -> str:
    """Decision 10: both sides want seals, or both are in the laboratory setting."""
    wants_seal = bool(hello.flags & Flag.SSMB_MAC)
    if wants_seal and settings.laboratory:
        return "this segment runs with laboratory_no_authentication, and the peer does not"
    if not wants_seal and not settings.laboratory:
        return "the peer runs with laboratory_no_authentication, and this segment does not"
    return ""


def _was_stripped(hello: Hello, standing: Standing) -> bool:
    """Whether the peer says under its seal that it proves its HELLOs, and was not asked to (12.6).

    Its first HELLO, unsealed, did not say so: somebody on the way took the flag out of it.
    """
    wants = bool(hello.flags & Flag.TRANSCRIPT) and standing.settings.proves_hellos
    return standing.peer is not None and wants and not standing.transcript


def _change(hello: Hello, before: Hello | None) -> str:
    if before is not None and hello.segment_id != before.segment_id:
        return f"segment_id changes from {before.segment_id} to {hello.segment_id}"
    return ""


def _refused(reason: str, code: int = ErrorCode.BADMSG) -> Judgement:
    return Judgement(Input.HELLO_REFUSED, reason, code, RETRY_MAX_S)


def _refusal(peer: str, hello: Hello) -> Judgement:
    why = _DUPLICATES.get(hello.error_code, "")
    reason = f"the {peer} refused the connection: {error_name(hello.error_code)}{why}"
    is_duplicate = hello.error_code == ErrorCode.DUPID  # ends with the other one (7.7, rule 12)
    wait_s = RETRY_DUPID_S if is_duplicate else RETRY_MAX_S
    return Judgement(Input.HELLO_REFUSAL, reason, hello.error_code, wait_s)
