# SPDX-License-Identifier: Apache-2.0
"""SYN cookies: what they carry, how long they are good, and their octets.

tests/vectors/syn_cookies.json is for the data path's program too.  To write it anew:

    SPLITPLANE_WRITE_VECTORS=1 .venv/bin/python -m pytest tests/unit/splicing/test_cookies.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packets.parse import ACK, SYN
from packets.tcp import CWR, ECE, Options, Segment
from splicing import cookies
from splicing.instructions import Agreed
from ssmb.addresses import from_text, to_text
from ssmb.constants import TCP
from ssmb.messages import Session
from ssmb.seal import tag

VECTORS: Final = Path(__file__).parents[2] / "vectors" / "syn_cookies.json"
KEY: Final = b"a key of the group's segments, of more than 32 octets"
NOW: Final = 1_800_000_000.0
ENDS: Final = Session(from_text("198.51.100.9"), from_text("203.0.113.10"), 40001, 80, TCP)
FULL: Final = Options(1460, 7, True, (), (1000, 0))


def secrets(now: float = NOW) -> cookies.Secrets:
    """Those of group 1."""
    return cookies.secrets_at(KEY, 1, now)


def shake(
    syn: Segment, *, mss: int = 1460, ecn: bool = True, answered: float = NOW, read: float = NOW
) -> tuple[Segment, Agreed | None]:
    """The SYN-ACK, and what is read from the first octets of a client that answers it."""
    syn_ack = cookies.answer(secrets(answered), ENDS, syn, 123_457, mss=mss, ecn=ecn)
    stamps = syn_ack.options.timestamps
    first = Segment(
        seq=syn.seq + 1 & 0xFFFFFFFF,
        ack=syn_ack.seq + 1 & 0xFFFFFFFF,
        flags=ACK,
        options=Options(timestamps=None if stamps is None else (1001, stamps[0])),
        payload=b"GET",
    )
    return syn_ack, cookies.read(secrets(read), ENDS, first)


def test_the_answer_to_a_modern_client() -> None:
    syn = Segment(0xFFFFFFFF, flags=SYN | ECE | CWR, window=64240, options=FULL)
    syn_ack, agreed = shake(syn, mss=1440)
    assert syn_ack.ack == 0
    assert syn_ack.flags == SYN | ACK | ECE
    assert syn_ack.window == 65535
    assert syn_ack.options == Options(1440, 7, True, (), (61728 << 1 | 1, 1000))
    assert agreed == Agreed(0xFFFFFFFF, syn_ack.seq, 1460, 7, True, 61728 << 1 | 1, True)
    assert agreed == cookies.agreed(syn, syn_ack)


def test_the_answer_to_a_plain_client() -> None:
    syn_ack, agreed = shake(Segment(5, flags=SYN, options=Options()))
    assert syn_ack.options == Options(mss=1460)
    assert agreed == Agreed(5, syn_ack.seq, 536, None, False, None, False)


@pytest.mark.parametrize(
    ("flags", "options", "allowed"),
    [
        (SYN | ECE, FULL, True),  # a half request is none (RFC 3168 6.1.1)
        (SYN | CWR, FULL, True),
        (SYN | ECE | CWR, FULL, False),
        (SYN | ECE | CWR, FULL._replace(timestamps=None), True),  # no place to remember it
    ],
)
def test_no_ecn(flags: int, options: Options, allowed: bool) -> None:
    syn_ack, agreed = shake(Segment(5, flags=flags, options=options), ecn=allowed)
    assert syn_ack.flags == SYN | ACK
    assert agreed is not None
    assert not agreed.ecn


@pytest.mark.parametrize(
    ("theirs", "kept"),
    [(None, 536), (88, 536), (536, 536), (1219, 536), (1220, 1220), (1399, 1360), (1400, 1400),
     (1459, 1440), (1460, 1460), (8899, 1460), (8900, 8900), (65535, 8900)],
)  # fmt: skip
def test_the_mss_is_rounded_down(theirs: int | None, kept: int) -> None:
    _, agreed = shake(Segment(5, flags=SYN, options=Options(mss=theirs)))
    assert agreed is not None
    assert agreed.mss == kept


@given(
    st.integers(0, 0xFFFFFFFF),
    st.none() | st.integers(1, 65535),
    st.none() | st.integers(0, 14),
    st.booleans(),
    st.booleans(),
)
def test_what_is_read_is_what_was_agreed(
    isn: int, mss: int | None, scale: int | None, sack: bool, ecn: bool
) -> None:
    options = Options(mss, scale, sack, (), (9, 0) if ecn else None)
    syn = Segment(isn, flags=SYN | ((ECE | CWR) if ecn else 0), options=options)
    syn_ack, agreed = shake(syn)
    assert agreed == cookies.agreed(syn, syn_ack)
    assert agreed is not None
    assert agreed.window_scale == scale
    assert agreed.sack == sack
    assert agreed.ecn == ecn


# --- how long they are good ------------------------------------------------------------------


@pytest.mark.parametrize(("slots", "good"), [(-2, False), (-1, True), (0, True), (1, True),
                                             (2, False), (3, False), (4, False)])  # fmt: skip
def test_the_neighbours_are_accepted(slots: int, good: bool) -> None:
    """A neighbour's clock may be off, and a client may be slow; a secret with the same number
    modulo 4 is another secret."""
    _, agreed = shake(Segment(5, flags=SYN, options=FULL), read=NOW + slots * cookies.SECRET_S)
    assert (agreed is not None) == good


def test_the_clocks_first_slot() -> None:
    assert set(secrets(3.0).by_number) == {0, 1}
    assert cookies.secret_number(63.9) == 0
    assert cookies.secret_number(64.0) == 1


def test_secrets_differ() -> None:
    made = [cookies.secret(KEY, group, number) for group in (1, 2) for number in (1, 2, 5)]
    made.append(cookies.secret(KEY + b"x", 1, 1))
    assert len(set(made)) == len(made)
    assert {len(secret) for secret in made} == {cookies.SECRET_SIZE}


# --- what is not one -------------------------------------------------------------------------


def first_octets(syn_ack: Segment) -> Segment:
    return Segment(6, syn_ack.seq + 1 & 0xFFFFFFFF, ACK, payload=b"GET")


def test_each_part_counts() -> None:
    syn_ack, _ = shake(Segment(5, flags=SYN, options=FULL))
    first = first_octets(syn_ack)
    good = cookies.read(secrets(), ENDS, first)
    assert good is not None
    for ends in (
        ENDS._replace(src_port=40002),
        ENDS._replace(dst_port=81),
        ENDS._replace(src_ipaddr=from_text("198.51.100.8")),
        ENDS._replace(dst_ipaddr=from_text("203.0.113.11")),
    ):
        assert cookies.read(secrets(), ends, first) is None
    assert cookies.read(secrets(), ENDS, first._replace(seq=7)) is None
    assert cookies.read(secrets(), ENDS, first._replace(flags=0)) is None
    for bit in range(32):
        assert cookies.read(secrets(), ENDS, first._replace(ack=first.ack ^ 1 << bit)) is None


def test_a_guess_is_rarely_right() -> None:
    right = [
        ack
        for ack in range(0, 1 << 32, (1 << 32) // 2000 + 1)
        if cookies.read(secrets(), ENDS, Segment(6, ack, ACK))
    ]
    assert right == []


@pytest.mark.parametrize("stamps", [None, (9, 0)])
@pytest.mark.parametrize("theirs", [1220, 1460])
def test_later_segments_of_the_first_flight(stamps: tuple[int, int] | None, theirs: int) -> None:
    options = Options(theirs, timestamps=stamps)
    syn_ack, _ = shake(Segment(0xFFFFFF00, flags=SYN, options=options), mss=1440)
    full = min(1440, theirs) - (12 if stamps else 0)
    ours = syn_ack.options.timestamps
    echo = None if ours is None else (10, ours[0])
    for ahead, known in ((0, False), (1, True), (9, True), (10, False)):
        later = Segment(
            0xFFFFFF01 + ahead * full & 0xFFFFFFFF,
            syn_ack.seq + 1 & 0xFFFFFFFF,
            ACK,
            options=Options(timestamps=echo),
            payload=b"x" * full,
        )
        assert cookies.is_of_first_flight(secrets(), ENDS, later, 1440) == known
        assert (cookies.read(secrets(), ENDS, later) is not None) == (ahead == 0)


# --- their octets ----------------------------------------------------------------------------


def by_hand(vector: dict[str, Any]) -> int:
    """The cookie, made from the page's words (docs/design/0012) and not by the module."""
    scale = 15 if vector["window_scale"] is None else vector["window_scale"]
    table = [536, 1220, 1300, 1360, 1400, 1440, 1460, 8900]
    fitting = [index for index, mss in enumerate(table) if mss <= (vector["mss"] or 536)]
    ten = f"{vector['secret_number'] % 4:02b}{max(fitting, default=0):03b}{scale:04b}"
    ten += str(int(vector["sack_permitted"]))
    facts = int(ten + "0" * 22, 2)
    octets = from_text(vector["client"]) + from_text(vector["virtual_address"])
    octets += vector["client_port"].to_bytes(2, "big") + vector["virtual_port"].to_bytes(2, "big")
    octets += vector["client_isn"].to_bytes(4, "big") + facts.to_bytes(4, "big")
    hashed = tag(bytes.fromhex(vector["secret"]), octets)
    return facts + int.from_bytes(hashed, "little") % (1 << 22)


def vectors() -> list[dict[str, Any]]:
    """Examples of both families, of each secret's number and of every entry of the table."""
    made = []
    sizes = (None, 88, 536, 1220, 1300, 1360, 1400, 1440, 1460, 8900, 65535)
    for index, mss in enumerate(sizes):
        number = 28_125_000 + index
        v6 = index % 2 == 1
        vector: dict[str, Any] = {
            "client": "2001:db8::9" if v6 else "198.51.100.9",
            "virtual_address": "2001:db8:1::10" if v6 else "203.0.113.10",
            "client_port": 40000 + index,
            "virtual_port": 443,
            "client_isn": (0xFFFFFFF8 + index) & 0xFFFFFFFF,
            "mss": mss,
            "window_scale": None if index % 3 == 2 else index % 15,
            "sack_permitted": index % 4 != 0,
            "secret_number": number,
            "secret": cookies.secret(KEY, 7, number).hex(),
        }
        vector["cookie"] = by_hand(vector)
        made.append(vector)
    return made


def test_the_vectors() -> None:
    if os.environ.get("SPLITPLANE_WRITE_VECTORS"):
        VECTORS.write_text(json.dumps(vectors(), indent=1) + "\n")
    kept = json.loads(VECTORS.read_text())
    assert kept == vectors()
    for vector in kept:
        number = vector["secret_number"]
        known = cookies.Secrets(number, {number % 4: bytes.fromhex(vector["secret"])})
        ends = Session(
            from_text(vector["client"]),
            from_text(vector["virtual_address"]),
            vector["client_port"],
            vector["virtual_port"],
            TCP,
        )
        options = Options(vector["mss"], vector["window_scale"], vector["sack_permitted"])
        assert cookies.make(known, ends, vector["client_isn"], options) == vector["cookie"]
        assert to_text(ends.src_ipaddr) == vector["client"]
