# SPDX-License-Identifier: Apache-2.0
"""Which secrets the target has, and when; a wall clock by hand."""

from data_flow_segment.flows.cookies import Cookies
from data_flow_segment.outbox import Outbox
from data_flow_segment.targets.contract import SetCookies
from splicing.cookies import SECRET_S, secret

KEY = b"a key of twenty octets"


class Rig:
    def __init__(self, key: bytes = KEY, *, seed: int = 0) -> None:
        self.outbox = Outbox()
        self.wall = 64_000.0 * SECRET_S
        self.groups: dict[int, int] = {}
        self.cookies = Cookies(
            self.outbox, key, self.groups, lambda: self.wall, lambda size: bytes([seed]) * size
        )

    def given(self, now: float = 0.0) -> list[SetCookies]:
        self.cookies.follow(now)
        commands = self.outbox.take_commands()
        assert all(isinstance(command, SetCookies) for command in commands)
        return [command for command in commands if isinstance(command, SetCookies)]


def test_a_long_key_counts_whole() -> None:
    long = bytes(range(60))
    seen = set()
    for key in (long, long[:-1], long[:32]):
        rig = Rig(key)
        rig.groups[1] = 1
        (given,) = rig.given()
        seen.add(given.secrets)
    assert len(seen) == 3


def test_nobody_without_a_proxied_virtual_server_gets_any() -> None:
    rig = Rig()
    assert rig.given() == []
    assert rig.cookies.get_timer() is None


def test_the_one_before_the_current_one_and_the_next_are_good() -> None:
    rig = Rig()
    rig.groups[3] = 1
    (given,) = rig.given()
    assert (given.group_id, given.current) == (3, 0)
    assert given.secrets == (
        secret(KEY, 3, 64_000),
        secret(KEY, 3, 64_001),
        b"",
        secret(KEY, 3, 63_999),
    )
    assert rig.given() == []


def test_they_roll_by_the_wall_clock_and_the_timer_says_when() -> None:
    rig = Rig()
    rig.groups[3] = 1
    (before,) = rig.given(now=1000.0)
    assert rig.cookies.get_timer() == 1000.0 + SECRET_S
    rig.wall += SECRET_S - 1
    assert rig.given(now=1063.0) == []
    rig.wall += 1
    (after,) = rig.given(now=1064.0)
    assert after.current == 1
    assert after.secrets[0] == before.secrets[0]
    assert after.secrets[1] == before.secrets[1]
    assert after.secrets[3] == b""


def test_a_clock_that_is_set_back_gives_the_older_ones_again() -> None:
    rig = Rig()
    rig.groups[3] = 1
    (before,) = rig.given()
    rig.wall += 10 * SECRET_S
    rig.given(now=64.0)
    rig.wall -= 10 * SECRET_S
    assert rig.given(now=128.0) == [before]


def test_groups_have_different_ones_and_those_that_come_later_get_theirs() -> None:
    rig = Rig()
    rig.groups[1] = 1
    (first,) = rig.given()
    rig.groups[2] = 1
    (second,) = rig.given()
    assert second.group_id == 2
    assert set(first.secrets) & set(second.secrets) == {b""}
    rig.groups.clear()
    assert rig.given() == []
    rig.groups[2] = 1
    assert rig.given() == [second]


def test_two_segments_with_one_key_have_the_same_and_laboratories_random_ones() -> None:
    secrets = []
    for key, seed in ((KEY, 0), (KEY, 1), (b"", 2), (b"", 3)):
        rig = Rig(key, seed=seed)
        rig.groups[1] = 1
        (given,) = rig.given()
        secrets.append(given.secrets)
    assert secrets[0] == secrets[1]
    assert len(set(secrets)) == 3
