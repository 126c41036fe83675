# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, by whose fault it is.

CsmbError
├── LocalProtocolError      our caller broke the rules
│   └── EncodeError         a value does not fit its field or its message
└── RemoteProtocolError     the peer did
    ├── MalformedMessage    octets that are no message; the stream goes on behind it
    ├── UnknownType         a type that we do not know; the stream goes on behind it
    └── BrokenStream        no telling where the next message starts: close
"""


class CsmbError(Exception):
    """Base of all."""


class LocalProtocolError(CsmbError):
    """Our caller's fault."""


class EncodeError(LocalProtocolError):
    """A value does not fit its field or its message."""


class RemoteProtocolError(CsmbError):
    """The peer's fault."""


class MalformedMessage(RemoteProtocolError):
    """Octets that are no message of this version."""


class UnknownType(RemoteProtocolError):
    """A message type that we do not know."""


class BrokenStream(RemoteProtocolError):
    """A msg_length that cannot be one."""
