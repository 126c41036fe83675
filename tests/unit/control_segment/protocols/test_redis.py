# SPDX-License-Identifier: Apache-2.0
"""The first command of a Redis client."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_segment.protocols.plugin import NotYet, Reading, Told, Unfit
from control_segment.protocols.redis import ARGUMENTS_MAX, Redis

REDIS = Redis()


def command(*words: bytes) -> bytes:
    """As clients send it."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)


def told(octets: bytes) -> dict[str, str]:
    read = REDIS.read(octets)
    assert isinstance(read, Told), read
    assert (read.instead, read.skip) == (b"", 0)
    return dict(read.attributes)


@pytest.mark.parametrize(
    ("octets", "attributes"),
    [
        (command(b"GET", b"user:7"), {"command": "GET", "key": "user:7"}),
        (command(b"set", b"k", b"v"), {"command": "SET", "key": "k"}),
        (command(b"GET", b"{user:7}:name"), {"command": "GET", "key": "user:7"}),
        (command(b"GET", b"{}x"), {"command": "GET", "key": "{}x"}),
        (command(b"GET", b"a{b}{c}"), {"command": "GET", "key": "b"}),
        (command(b"BITOP", b"AND", b"dest", b"a", b"b"), {"command": "BITOP", "key": "dest"}),
        (command(b"OBJECT", b"ENCODING", b"k"), {"command": "OBJECT", "key": "k"}),
        (command(b"EVAL", b"return 1", b"1", b"k"), {"command": "EVAL", "key": "k"}),
        (command(b"EVAL", b"return 1", b"0", b"v"), {"command": "EVAL"}),
        (command(b"PING"), {"command": "PING"}),
        (command(b"AUTH", b"secret"), {"command": "AUTH", "user": "default"}),
        (command(b"AUTH", b"alice", b"secret"), {"command": "AUTH", "user": "alice"}),
        (command(b"HELLO", b"3"), {"command": "HELLO"}),
        (
            command(b"HELLO", b"3", b"auth", b"alice", b"secret", b"SETNAME", b"x"),
            {"command": "HELLO", "user": "alice"},
        ),
        (command(b"SELECT", b"5"), {"command": "SELECT", "database": "5"}),
        (b"GET user:7\r\n", {"command": "GET", "key": "user:7"}),
        (b"ping\n", {"command": "PING"}),
    ],
)
def test_what_decides_is_read(octets: bytes, attributes: dict[str, str]) -> None:
    assert told(octets) == attributes
    assert told(octets + command(b"GET", b"later")) == attributes


@pytest.mark.parametrize(
    "octets",
    [command(b"AUTH", b"alice", b"secret"), command(b"GET", b"user:7"), b"GET user:7\r\n"],
)
def test_at_every_octet_more_is_needed_until_it_is_whole(octets: bytes) -> None:
    reads: list[Reading] = [REDIS.read(octets[:end]) for end in range(len(octets) + 1)]
    assert all(isinstance(each, NotYet) for each in reads[:-1])
    assert isinstance(reads[-1], Told)


def test_a_value_that_is_not_collected_is_not_waited_for() -> None:
    assert told(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\nxxx") == {
        "command": "SET",
        "key": "k",
    }


@pytest.mark.parametrize(
    "octets",
    [
        b"*0\r\n",
        b"\r\n",
        b"*x\r\n",
        b"*%d\r\n" % (ARGUMENTS_MAX + 1),
        b"*1\r\n:3\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$99999999999\r\n",
        b"*1\r\n$1234567890123456789",
        b"*1\r\n$1\r\nab\r\n",
        b"\x16\x03\x01",
        b"x" * 100_000,
    ],
)
def test_what_is_no_redis_is_refused(octets: bytes) -> None:
    read = REDIS.read(octets)
    assert isinstance(read, Unfit)
    assert read.why


@given(st.binary(max_size=200) | st.lists(st.binary(max_size=20)).map(lambda w: command(*w)))
def test_any_octets_are_read(octets: bytes) -> None:
    read = REDIS.read(octets)
    if isinstance(read, Told):
        assert set(read.attributes) <= set(REDIS.ATTRIBUTES)
