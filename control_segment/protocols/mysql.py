# SPDX-License-Identifier: Apache-2.0
"""MySQL and MariaDB: the user and the database of a connection (client/server protocol 4.1).

The server speaks first, so the CS does in its place.  The client's answer names user and database,
and proves a password for the CS's salt, which is worth nothing to a node.  So the node gets the
answer without a proof and with a method of authentication that no server has; it asks for another
(AuthSwitchRequest) with a salt of its own, and the client proves its password to the node itself.
Neither the CS nor anybody else has to know passwords.  What a packet's number must be fits: the
greeting is 0, the answer 1, the node's request 2, as if it had been one conversation.

TLS is not offered: a client that insists on it is refused, because what it says cannot be read.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from control_segment.protocols.plugin import NOT_YET, Reading, Told, Unfit, attribute
from splicing.instructions import GreetingEnd, Verdict

HEADER: Final = 4  # of a packet: length (3, little endian), number
ANSWER_MAX: Final = 8192  # octets of a client's answer that are looked at
GREETING_MAX: Final = 4096  # of a node's
SALT_SIZE: Final = 20

# capabilities
LONG_PASSWORD: Final = 1 << 0
FOUND_ROWS: Final = 1 << 1
LONG_FLAG: Final = 1 << 2
CONNECT_WITH_DB: Final = 1 << 3
NO_SCHEMA: Final = 1 << 4
LOCAL_FILES: Final = 1 << 7
IGNORE_SPACE: Final = 1 << 8
PROTOCOL_41: Final = 1 << 9
INTERACTIVE: Final = 1 << 10
TLS: Final = 1 << 11
TRANSACTIONS: Final = 1 << 13
SECURE_CONNECTION: Final = 1 << 15
MULTI_STATEMENTS: Final = 1 << 16
MULTI_RESULTS: Final = 1 << 17
PS_MULTI_RESULTS: Final = 1 << 18
PLUGIN_AUTH: Final = 1 << 19
CONNECT_ATTRIBUTES: Final = 1 << 20
LENENC_AUTH: Final = 1 << 21
SESSION_TRACK: Final = 1 << 23

# What MySQL and MariaDB have had in common for ten years; neither compression nor TLS,
# and no end without EOF packets, which MariaDB does not know
OFFERED: Final = (
    LONG_PASSWORD | FOUND_ROWS | LONG_FLAG | CONNECT_WITH_DB | NO_SCHEMA | LOCAL_FILES
    | IGNORE_SPACE | PROTOCOL_41 | INTERACTIVE | TRANSACTIONS | SECURE_CONNECTION
    | MULTI_STATEMENTS | MULTI_RESULTS | PS_MULTI_RESULTS | PLUGIN_AUTH | CONNECT_ATTRIBUTES
    | LENENC_AUTH | SESSION_TRACK
)  # fmt: skip
_NEEDED: Final = PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH
_VERSION: Final = b"8.0.0-splitplane"  # clients read the number; the node's own is not known yet
_UTF8MB4: Final = 45
_AUTOCOMMIT: Final = 2
_PROOF_BY: Final = b"mysql_native_password"
# A method that no server has, so that every node asks for the one that the account has
NO_METHOD: Final = b"splitplane_ask_again"
_FIXED: Final = 32  # of the answer: capabilities, packet size, character set, filler
_GREETING: Final = 10  # the version of the greeting


class Mysql:
    """The handshake of protocol 4.1."""

    ATTRIBUTES: tuple[str, ...] = ("user", "database")
    HASHED = "database"
    SPEAKS_FIRST = True

    @property
    def greeting_end(self) -> GreetingEnd | None:
        """The node's greeting is one packet."""
        return read_greeting

    def greeting(self, number: int, salt: bytes) -> bytes:
        """A server's first packet; `number`: the connection's, as `SHOW PROCESSLIST` has it."""
        # a zero would end the salt early
        salt = bytes(each % 127 + 1 for each in salt[:SALT_SIZE].ljust(SALT_SIZE, b"\x01"))
        body = (
            bytes((_GREETING,)) + _VERSION + b"\0"
            + number.to_bytes(4, "little") + salt[:8] + b"\0"
            + (OFFERED & 0xFFFF).to_bytes(2, "little") + bytes((_UTF8MB4,))
            + _AUTOCOMMIT.to_bytes(2, "little") + (OFFERED >> 16).to_bytes(2, "little")
            + bytes((SALT_SIZE + 1,)) + bytes(10) + salt[8:] + b"\0" + _PROOF_BY + b"\0"
        )  # fmt: skip
        return packet(0, body)

    def read(self, octets: bytes) -> Reading:
        """Read the client's answer to the greeting."""
        if len(octets) < HEADER:
            return NOT_YET
        length = int.from_bytes(octets[:3], "little")
        if octets[3] != 1:
            return Unfit("the client's first packet has not the number 1")
        if not _FIXED < length <= ANSWER_MAX:
            if length == _FIXED:
                return Unfit("the client asks for TLS; what it says then cannot be read")
            return Unfit("the client's first packet is no answer to a greeting of protocol 4.1")
        if len(octets) < HEADER + length:
            return NOT_YET
        answer = _read_answer(octets[HEADER : HEADER + length])
        if isinstance(answer, Unfit):
            return answer
        attributes = {"user": attribute(answer.user)}
        if answer.database:
            attributes["database"] = attribute(answer.database)
        return Told(attributes, packet(1, answer.without_proof()), HEADER + length)


class _Answer(NamedTuple):
    """A HandshakeResponse41."""

    fixed: bytes  # capabilities, packet size, character set, filler
    user: bytes
    database: bytes
    rest: bytes  # behind the method: the client's attributes

    def without_proof(self) -> bytes:
        """The same from somebody who proves nothing, by a method that no server has."""
        capabilities = int.from_bytes(self.fixed[:4], "little")
        database = self.database + b"\0" if capabilities & CONNECT_WITH_DB else b""
        return self.fixed + self.user + b"\0\0" + database + NO_METHOD + b"\0" + self.rest


def _read_answer(body: bytes) -> _Answer | Unfit:
    fixed = body[:_FIXED]
    capabilities = int.from_bytes(fixed[:4], "little")
    if capabilities & TLS:
        return Unfit("the client asks for TLS, which was not offered")
    if capabilities & _NEEDED != _NEEDED:
        return Unfit("the client is too old: it cannot be asked to prove its password again")
    # what was not offered does not hold, whatever a client says
    capabilities &= OFFERED
    fixed = capabilities.to_bytes(4, "little") + fixed[4:]
    user, ended, rest = body[_FIXED:].partition(b"\0")
    if not ended:
        return Unfit("the client's answer has no end of the user's name")
    proof = _octets_of(rest, counted=bool(capabilities & LENENC_AUTH))
    if proof is None:
        return Unfit("the client's answer ends in its proof of the password")
    rest = rest[proof:]
    database = b""
    if capabilities & CONNECT_WITH_DB:
        database, ended, rest = rest.partition(b"\0")
        if not ended:
            return Unfit("the client's answer has no end of the database's name")
    _, _, rest = rest.partition(b"\0")  # the method
    return _Answer(fixed, user, database, rest)


def _octets_of(rest: bytes, *, counted: bool) -> int | None:
    """How many octets the proof has with its length; None: more than there are."""
    if not rest:
        return None
    length, header = rest[0], 1
    if counted and length >= 0xFB:
        width = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(length)
        if width is None or len(rest) < 1 + width:
            return None
        length, header = int.from_bytes(rest[1 : 1 + width], "little"), 1 + width
    return header + length if header + length <= len(rest) else None


def packet(number: int, body: bytes) -> bytes:
    """A packet of the protocol."""
    return len(body).to_bytes(3, "little") + bytes((number,)) + body


def read_greeting(octets: bytes) -> int | Verdict:
    """How long a node's greeting is.  A node that is full or that shuts the DFS out says so in its
    place, with an error, which the client would not expect now."""
    if len(octets) < HEADER:
        return Verdict.MORE
    length = int.from_bytes(octets[:3], "little")
    if not length or length > GREETING_MAX or octets[3] != 0:
        return Verdict.REFUSED
    if len(octets) > HEADER and octets[HEADER] != _GREETING:
        return Verdict.REFUSED
    return HEADER + length if len(octets) >= HEADER + length else Verdict.MORE
