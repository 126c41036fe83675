# SPDX-License-Identifier: Apache-2.0
"""Why a connection's first octets cannot be read: one list for every reader of this package."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Refusal(StrEnum):
    """What is wrong, as a name for counters."""

    # HTTP (packets.http)
    NOT_HTTP = "not_http"  # no request line of HTTP/1.x
    HTTP2 = "http2"  # HTTP/2's connection preface, sent with prior knowledge (RFC 9113 3.3)
    VERSION = "version"  # neither HTTP/1.0 nor HTTP/1.1
    TARGET = "target"  # of a request: malformed, or two recipients could read it differently
    HEADER = "header"  # a malformed header line, or lengths that contradict each other
    HOST = "host"  # several, malformed, or another than the target's
    # TLS (packets.tls)
    NOT_TLS = "not_tls"  # no record of TLS, and no hello of SSL 2.0
    RECORD = "record"  # empty, too long, or not of the handshake
    ALERT = "alert"  # instead of a hello
    HELLO = "hello"  # another message, or malformed
    SERVER_NAME = "server_name"  # several, or malformed


@dataclass(frozen=True, slots=True)
class Refused:
    """The octets are not what they should be, and no further octet would change that.

    `detail` is for an operator; it quotes nothing that the other side sent.
    """

    reason: Refusal
    detail: str
