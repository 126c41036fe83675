# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, by whose fault it is.

SsmbError
├── LocalProtocolError      the caller broke the rules
│   └── EncodeError         a value does not fit its field or its message
└── RemoteProtocolError     the peer did, or a host that pretends to be it
    ├── MalformedMessage    octets that are not a message
    └── SealError           a datagram whose content must not be read
        ├── TooShort
        ├── BadTag
        ├── Replayed
        └── TooOld
"""


class SsmbError(Exception):
    """Base of all."""


class LocalProtocolError(SsmbError):
    """The caller's fault."""


class EncodeError(LocalProtocolError):
    """A value does not fit its field or its message."""


class RemoteProtocolError(SsmbError):
    """The peer's fault."""


class MalformedMessage(RemoteProtocolError):
    """Octets that are not a message of this version."""


class SealError(RemoteProtocolError):
    """A datagram whose seal is not valid."""


class TooShort(SealError):
    """No room for a seal."""


class BadTag(SealError):
    """Forged, damaged, or sealed with another key."""


class Replayed(SealError):
    """A counter that was seen before."""


class TooOld(SealError):
    """A counter behind the window: it is unknown whether it was seen."""
