# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, by whose fault it is.

CsmbError
├── LocalProtocolError      the caller broke the rules
│   ├── EncodeError         a value does not fit its field or its message
│   └── NotReady            a message to send, and the connection is not READY
└── RemoteProtocolError     the peer did
    ├── MalformedMessage    octets that are not a message; the stream continues behind it
    ├── UnknownType         an unknown type; the stream continues behind it
    └── BrokenStream        nothing behind it can be trusted: close
        ├── BadSeal         forged, repeated, left out or moved
        └── LostMessage     a serial that is not the next one
"""


class CsmbError(Exception):
    """Base of all."""


class LocalProtocolError(CsmbError):
    """The caller's fault."""


class EncodeError(LocalProtocolError):
    """A value does not fit its field or its message."""


class NotReady(LocalProtocolError):
    """A message to send, and the connection is not READY."""


class RemoteProtocolError(CsmbError):
    """The peer's fault."""


class MalformedMessage(RemoteProtocolError):
    """Octets that are not a message of this version."""


class UnknownType(RemoteProtocolError):
    """An unknown message type."""


class BrokenStream(RemoteProtocolError):
    """A msg_length that cannot be one."""


class BadSeal(BrokenStream):
    """Forged, repeated, left out or moved."""


class LostMessage(BrokenStream):
    """A serial that is not the next one."""
