# SPDX-License-Identifier: Apache-2.0
"""SYN cookies: the sequence number of a SYN-ACK that carries what the client's SYN said, so that
nothing is kept before the client has answered (RFC 4987 3.6; docs/design/0012).

Octet for octet as the data path makes them; tests/vectors/syn_cookies.json has
examples.  From the highest bit: secret's number (2), MSS (3), window scale (4), SACK permitted (1),
hash (22).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

from packets.parse import ACK, SYN
from packets.tcp import CWR, ECE, TIMESTAMPS_LENGTH, Options, Segment
from splicing.instructions import OWN_WINDOW, OWN_WINDOW_SCALE, Agreed
from ssmb.keys import derive
from ssmb.messages import Session
from ssmb.seal import tag

SECRET_SIZE: Final = 16
SECRET_S: Final = 64
"""How long a secret is the one that cookies are made with."""
SECRETS: Final = 4
"""Secrets are numbered modulo this in a cookie."""
MSS_TABLE: Final = (536, 1220, 1300, 1360, 1400, 1440, 1460, 8900)
TIMESTAMP_MS: Final = 2  # a TSval's bit 0 is not the clock's

_HASH_BITS: Final = 22
_HASH_MASK: Final = (1 << _HASH_BITS) - 1
_NO_SCALE: Final = 15
_INPUT: Final = struct.Struct("!16s16sHHII")
_LABEL: Final = "SYN-COOKIE-1"
_WORD32: Final = 0xFFFFFFFF
_FIRST_FLIGHT: Final = 10  # segments of a client's first flight (RFC 6928)


def secret_number(wall_clock_s: float) -> int:
    """The number of the secret that is used at that time (seconds since 1970)."""
    return int(wall_clock_s) // SECRET_S


def secret(pre_shared_key: bytes, group_id: int, number: int) -> bytes:
    """A group's secret with that number; all DFSs that have the key make the same one."""
    parts = struct.pack("!HQ", group_id, number)
    return derive(pre_shared_key, _LABEL, parts)[:SECRET_SIZE]


class Secrets(NamedTuple):
    """The secrets of a moment."""

    number: int
    """Of the one that cookies are made with."""

    by_number: Mapping[int, bytes]
    """It, the one before and the one after, by their numbers modulo 4."""


def secrets_at(pre_shared_key: bytes, group_id: int, wall_clock_s: float) -> Secrets:
    """The secrets that are used and accepted at that time."""
    number = secret_number(wall_clock_s)
    near = [n for n in (number - 1, number, number + 1) if n >= 0]
    return Secrets(number, {n % SECRETS: secret(pre_shared_key, group_id, n) for n in near})


def make(secrets: Secrets, ends: Session, client_isn: int, options: Options) -> int:
    """The proxy's initial sequence number for a client's SYN with these options; `ends` is the
    client's packet's (from the client to the virtual address)."""
    scale = _NO_SCALE if options.window_scale is None else options.window_scale
    facts = secrets.number % SECRETS << 8 | _mss_index(options.mss) << 5 | scale << 1
    facts = (facts | options.sack_permitted) << _HASH_BITS
    key = secrets.by_number[secrets.number % SECRETS]
    return facts | _hash(key, ends, client_isn, facts)


def timestamp(now_ms: int, *, ecn: bool) -> int:
    """The TSval of a SYN-ACK: a clock of 2 ms, and in bit 0 whether ECN was agreed."""
    return (now_ms // TIMESTAMP_MS << 1 | ecn) & _WORD32


def answer(
    secrets: Secrets, ends: Session, syn: Segment, now_ms: int, *, mss: int, ecn: bool
) -> Segment:
    """The SYN-ACK for a client's SYN; `mss` is what the virtual server's path allows, `now_ms` a
    clock that all packets of this DFS share, `ecn` whether ECN may be agreed (RFC 3168 6.1.1)."""
    theirs = syn.options
    agrees_ecn = ecn and theirs.timestamps is not None and syn.flags & (ECE | CWR) == ECE | CWR
    stamps = None
    if theirs.timestamps is not None:
        stamps = timestamp(now_ms, ecn=agrees_ecn), theirs.timestamps[0]
    return Segment(
        seq=make(secrets, ends, syn.seq, theirs),
        ack=syn.seq + 1 & _WORD32,
        flags=SYN | ACK | (ECE if agrees_ecn else 0),
        window=OWN_WINDOW,
        options=Options(
            mss=mss,
            window_scale=None if theirs.window_scale is None else OWN_WINDOW_SCALE,
            sack_permitted=theirs.sack_permitted,
            timestamps=stamps,
        ),
    )


def read(secrets: Secrets, ends: Session, segment: Segment) -> Agreed | None:
    """What was agreed with the client, from its first segment after the SYN: the ACK, or the first
    octets it sends.  None if that does not acknowledge a cookie of ours.

    Without timestamps a client cannot have agreed ECN.
    """
    return _read(secrets, ends, segment, segment.seq - 1 & _WORD32)


def facts(segment: Segment) -> Agreed:
    """What was agreed with a client, from the first segment after its SYN, whose cookie was found
    to be valid before."""
    return _agreed(segment, segment.seq - 1 & _WORD32)


def agreed(syn: Segment, syn_ack: Segment) -> Agreed:
    """What a client that answers this SYN-ACK (of `answer`) has agreed to."""
    theirs, ours = syn.options, syn_ack.options
    return Agreed(
        client_isn=syn.seq,
        own_isn=syn_ack.seq,
        mss=MSS_TABLE[_mss_index(theirs.mss)],
        window_scale=theirs.window_scale,
        sack=theirs.sack_permitted,
        own_timestamp=None if ours.timestamps is None else ours.timestamps[0],
        ecn=bool(syn_ack.flags & ECE),
    )


def is_of_first_flight(secrets: Secrets, ends: Session, segment: Segment, mss: int) -> bool:
    """Whether a segment acknowledges a cookie but is not the first that its client sent: the ones
    before it, all full, were lost or are late.  No state can begin with it, and an RST in answer
    would end a connection that the client's repeats will begin.  `mss` is the SYN-ACK's."""
    stamps = segment.options.timestamps
    full = mss - (0 if stamps is None else TIMESTAMPS_LENGTH)
    theirs = MSS_TABLE[(segment.ack - 1 & _WORD32) >> 27 & 7]
    full = min(full, theirs - (0 if stamps is None else TIMESTAMPS_LENGTH))
    return any(
        _read(secrets, ends, segment, segment.seq - 1 - ahead * full & _WORD32) is not None
        for ahead in range(1, _FIRST_FLIGHT)
    )


def _read(secrets: Secrets, ends: Session, segment: Segment, client_isn: int) -> Agreed | None:
    cookie = segment.ack - 1 & _WORD32
    said = cookie & ~_HASH_MASK
    key = secrets.by_number.get(said >> 30)
    if key is None or not segment.flags & ACK:
        return None
    if cookie & _HASH_MASK != _hash(key, ends, client_isn, said):
        return None
    return _agreed(segment, client_isn)


def _agreed(segment: Segment, client_isn: int) -> Agreed:
    cookie = segment.ack - 1 & _WORD32
    stamps = segment.options.timestamps
    scale = cookie >> 23 & 15
    return Agreed(
        client_isn=client_isn,
        own_isn=cookie,
        mss=MSS_TABLE[cookie >> 27 & 7],
        window_scale=None if scale == _NO_SCALE else scale,
        sack=bool(cookie >> 22 & 1),
        own_timestamp=None if stamps is None else stamps[1],
        ecn=stamps is not None and bool(stamps[1] & 1),
    )


def _mss_index(mss: int | None) -> int:
    """Of the largest entry that is at most the client's; the first one if none is."""
    return sum(entry <= (mss or 0) for entry in MSS_TABLE[1:])


def _hash(key: bytes, ends: Session, client_isn: int, facts: int) -> int:
    octets = _INPUT.pack(
        ends.src_ipaddr, ends.dst_ipaddr, ends.src_port, ends.dst_port, client_isn, facts
    )
    return int.from_bytes(tag(key, octets), "little") & _HASH_MASK
