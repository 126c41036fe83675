# SPDX-License-Identifier: Apache-2.0
"""What a segment says of itself on a connection, and what it demands of the peer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from csmb.codec import encode
from csmb.constants import HELLO_INTERVAL_S, ErrorCode, Flag
from csmb.messages import Hello
from csmb.versions import Pair, Version, Versions
from ssmb.addresses import UNSPECIFIED, is_ipv4
from ssmb.keys import KEY_MIN

CSMB_VERSIONS: Final[Versions] = ((1, 0), (2, 0))
SSMB_VERSIONS: Final[Versions] = ((1, 0), (2, 0))
# follow from other settings
_OURS: Final = Flag.ACTIVE | Flag.REDUNDANT | Flag.SSMB_MAC | Flag.TRANSCRIPT
GroupRole: TypeAlias = tuple[bool, int]
"""Whether a group has an active CS at a DFS, and the role_epoch of that one or of the last."""


def _accept(_: Hello) -> int:
    return ErrorCode.OK


def _any_version(_: Hello) -> Version | None:
    return None


@dataclass(frozen=True)
class ConnectionSettings:
    """One side of a connection; the same class for both roles."""

    segment_id: int
    key: bytes = field(repr=False)  # b"" if and only if laboratory
    group_id: int = 0  # a DFS echoes the CS's
    boot_id: int = 0
    csmb_versions: Versions = CSMB_VERSIONS
    ssmb_versions: Versions = SSMB_VERSIONS
    ssmb_ipaddr: bytes = UNSPECIFIED
    ssmb_port: int = 0
    standby_ipaddr: bytes = UNSPECIFIED  # where state is shared; unset: not redundant
    standby_port: int = 0
    hello_interval_s: int = HELLO_INTERVAL_S  # the CS's counts; a DFS echoes it
    active: bool = False
    role_epoch: int = 0
    flow_capacity: int = 0
    flags: int = 0  # capabilities; those of _OURS are set by what is above and below
    knocks: bool = False  # a CS's unsealed HELLOs show that it has the key (12.7)
    laboratory: bool = False  # no authentication, no seals: the segments log a warning
    # a DFS's owner: NOTACTIVE keeps the connection, any other error closes it; None, of one that is
    # READY: it is answered when the owner says so (`Connection.answer_held_hello`)
    accept_hello: Callable[[Hello], int | None] = _accept
    # a DFS's owner: the one SSMB version that a CS's group already speaks (7.8), None: any
    group_ssmb_version: Callable[[Hello], Version | None] = _any_version
    # a DFS's owner: the role of the CS's group once this HELLO of it counts
    group_role: Callable[[Hello], GroupRole] | None = None

    def __post_init__(self) -> None:
        """Refuse what could not work on any connection."""
        if self.laboratory and self.key:
            raise ValueError("a key and `laboratory` exclude each other")
        if not self.laboratory and len(self.key) < KEY_MIN:
            raise ValueError(f"the key has {len(self.key)} octets; at least {KEY_MIN}")
        if self.knocks and (self.laboratory or not self._speaks_ssmb_2):
            raise ValueError("knocking needs a key and SSMB version 2")
        if self.hello_interval_s < 1:
            raise ValueError(f"hello_interval_s is {self.hello_interval_s}; at least 1")
        if not self.csmb_versions or not self.ssmb_versions:
            raise ValueError("no version at all is supported")
        if not {major for major, _ in self.csmb_versions} <= {1, 2}:
            raise ValueError(f"CSMB {self.csmb_versions}: only versions 1 and 2 are known")
        if not self._speaks_ssmb_2 and not (
            _fits_ipv4(self.ssmb_ipaddr) and _fits_ipv4(self.standby_ipaddr)
        ):
            raise ValueError("an IPv6 address for SSMB needs SSMB version 2")
        # every number fits its field, or no HELLO could ever be sent
        encode(
            self.hello(((1, 0), (1, 0)), error_code=0, active=False, role_epoch=self.role_epoch),
            1,
            0,
            0,
        )

    @property
    def _speaks_ssmb_2(self) -> bool:
        return max(self.ssmb_versions)[0] >= 2

    @property
    def proves_hellos(self) -> bool:
        """Whether this side wants both sides' HELLOs in the proofs (12.6)."""
        return not self.laboratory and max(self.csmb_versions)[0] >= 2

    def hello(self, versions: Pair, *, error_code: int, active: bool, role_epoch: int) -> Hello:
        """Return the HELLO of a segment with these settings."""
        flags = self.flags & ~_OURS
        flags |= Flag.ACTIVE if active else 0
        flags |= Flag.REDUNDANT if self.standby_ipaddr != UNSPECIFIED else 0
        flags |= 0 if self.laboratory else Flag.SSMB_MAC
        flags |= Flag.TRANSCRIPT if self.proves_hellos else 0
        address, address6 = _two_fields(self.ssmb_ipaddr)
        standby, standby6 = _two_fields(self.standby_ipaddr)
        (major, minor), (ssmb_major, ssmb_minor) = versions
        return Hello(
            int(flags), error_code, self.hello_interval_s, major, minor, ssmb_major, ssmb_minor,
            self.segment_id, self.group_id, self.boot_id, role_epoch, self.flow_capacity,
            address, standby, self.ssmb_port, self.standby_port,
            address6 if self._speaks_ssmb_2 else None,
            standby6 if self._speaks_ssmb_2 else None,
        )  # fmt: skip


def _fits_ipv4(address: bytes) -> bool:
    return address == UNSPECIFIED or is_ipv4(address)


def _two_fields(address: bytes) -> tuple[bytes, bytes]:
    """Return an address as the frozen part and as the version-2 tail of HELLO carry it (7.4)."""
    return (address, UNSPECIFIED) if _fits_ipv4(address) else (UNSPECIFIED, address)
