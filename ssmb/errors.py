# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, by whose fault it is.

SsmbError
├── LocalProtocolError      our caller broke the rules
│   └── EncodeError         a value does not fit its field or its message
└── RemoteProtocolError     the peer did, or somebody who pretends to be it
    ├── MalformedMessage    octets that are no message
    └── SealError           a datagram that must not be looked at
        ├── TooShort
        ├── BadTag
        ├── Replayed
        └── TooOld
"""


class SsmbError(Exception):
    """Base of all."""


class LocalProtocolError(SsmbError):
    """Our caller's fault."""


class EncodeError(LocalProtocolError):
    """A value does not fit its field or its message."""


class RemoteProtocolError(SsmbError):
    """The peer's fault."""


class MalformedMessage(RemoteProtocolError):
    """Octets that are no message of this version."""


class SealError(RemoteProtocolError):
    """A datagram whose seal does not hold."""


class TooShort(SealError):
    """No room for a seal."""


class BadTag(SealError):
    """Forged, damaged, or sealed with another key."""


class Replayed(SealError):
    """A counter that was seen before."""


class TooOld(SealError):
    """A counter behind the window: seen or not, nobody can say."""
