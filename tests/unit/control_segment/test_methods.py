# SPDX-License-Identifier: Apache-2.0
"""Balancing methods one by one: order, weights, room."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from string import ascii_lowercase
from sys import setprofile
from time import process_time

import pytest

from control_segment.methods import METHODS
from control_segment.methods.fastest_response import FRESH_S, FastestResponse
from control_segment.methods.least_connections import LeastConnections
from control_segment.methods.least_recently_active import LeastRecentlyActive
from control_segment.methods.maglev import Maglev
from control_segment.methods.protocol import Method
from control_segment.methods.round_robin import RoundRobin
from control_segment.methods.table import Member, _free_entries, build, entries
from control_segment.methods.weighted_least_connections import WeightedLeastConnections
from control_segment.methods.weighted_round_robin import WeightedRoundRobin
from control_segment.nodes import FAILING_MAX, Node
from control_segment.wire import session_key
from ssmb.addresses import from_text

SERVER = from_text("203.0.113.10")


def key(number: int) -> bytes:
    client = from_text(f"198.51.{number >> 8 & 255}.{number & 255}")
    return session_key(client, SERVER, 1024 + number % 60000, 80, 6)


def node(name: str, weight: int = 1, limit: int = 0) -> Node:
    address = from_text(f"10.0.0.{ord(name[0]) - 96}")
    return Node("pool", name, address, 80, weight=weight, connection_limit=limit)


def picks(method: Method, count: int, *, keeps: bool = False) -> str:
    """Begin sessions one after the other; return the nodes' names."""
    names = []
    for number in range(count):
        now = number / 10
        picked = method.pick(key(number), now)
        assert picked is not None
        picked.session_started(now)
        if not keeps:
            picked.session_ended()
        names.append(picked.name)
    return "".join(names)


def prepared(method: Method, *nodes: Node) -> Method:
    method.prepare(nodes)
    return method


def test_round_robin_takes_one_after_the_other() -> None:
    assert picks(prepared(RoundRobin(), node("a"), node("b"), node("c")), 7) == "abcabca"


def test_round_robin_passes_over_full_nodes() -> None:
    full = node("b", limit=1)
    full.session_started(0)
    assert picks(prepared(RoundRobin(), node("a"), full, node("c")), 4) == "acac"


def test_weighted_round_robin_is_smooth() -> None:
    method = prepared(WeightedRoundRobin(), node("a", 5), node("b"), node("c"))
    assert picks(method, 14) == "aabacaaaabacaa"


def test_weighted_round_robin_goes_on_in_its_round_when_a_weight_changes() -> None:
    """A weight that goes up and down every few connections: 784 to 59 before."""
    nodes = node("a"), node("b"), node("c")
    method = prepared(WeightedRoundRobin(), *nodes)
    found: Counter[str] = Counter()
    for change in range(450):
        nodes[0].weight = 1 + change % 2
        method.prepare(nodes)
        found.update(picks(method, 2))
    assert found["b"] == pytest.approx(found["c"], abs=2)
    assert found["a"] == pytest.approx(900 * (1 / 3 + 1 / 2) / 2, abs=15)


def test_weighted_round_robin_gives_a_node_its_turn_although_others_come_and_go() -> None:
    nodes = node("a"), node("b"), node("c")
    method = WeightedRoundRobin()
    found: Counter[str] = Counter()
    for change in range(300):
        method.prepare(nodes[: 2 + change % 2])
        found.update(picks(method, 1))
    assert found["a"] == pytest.approx(found["b"], abs=20)


def test_round_robin_goes_on_with_the_next_node_when_others_come_and_go() -> None:
    a, b, c, d = (node(letter) for letter in "abcd")
    method = prepared(RoundRobin(), a, b, c, d)
    assert picks(method, 2) == "ab"
    method.prepare([b, c, d])
    assert picks(method, 1) == "c"
    method.prepare([a, b, c])
    assert picks(method, 3) == "bca"  # d, which was next, has gone
    method.prepare([c, b, a])
    assert picks(method, 1) == "b"


def test_weighted_round_robin_shares_a_full_nodes_turns() -> None:
    full = node("a", 5, limit=1)
    full.session_started(0)
    assert picks(prepared(WeightedRoundRobin(), full, node("b", 2), node("c")), 6) == "bcbbcb"


def test_least_connections_fills_the_emptiest_and_the_longest_waiting() -> None:
    nodes = node("a"), node("b"), node("c")
    nodes[0].active, nodes[1].active = 2, 1
    assert picks(prepared(LeastConnections(), *nodes), 6, keeps=True) == "cbcabc"


def test_weighted_least_connections_fills_by_weight() -> None:
    nodes = node("a", 3), node("b", 1)
    names = picks(prepared(WeightedLeastConnections(), *nodes), 40, keeps=True)
    assert Counter(names) == {"a": 30, "b": 10}


def measured(times: dict[Node, float]) -> FastestResponse:
    method = FastestResponse()
    for each, response_ms in times.items():
        method.response_measured(each, response_ms, 0.0)
    return method


def test_fastest_response_prefers_the_fast_until_they_are_loaded() -> None:
    fast, slow = node("a"), node("b")
    method = measured({fast: 1.0, slow: 4.0})
    names = picks(prepared(method, fast, slow), 50, keeps=True)
    assert names.startswith("aaa")
    assert Counter(names)["b"] == 10


def test_fastest_response_takes_unmeasured_nodes_for_the_slowest() -> None:
    fast, slow, unknown = node("a"), node("b"), node("c")
    method = measured({fast: 1.0, slow: 3.0})
    names = Counter(picks(prepared(method, fast, slow, unknown), 50, keeps=True))
    assert names["a"] == 30
    assert names["b"] == names["c"] == 10


def test_response_times_are_smoothed() -> None:
    a = node("a")
    method = measured({a: 8.0})
    method.response_measured(a, 16.0, 1.0)
    assert method.response_ms(a, 1.0) == 9.0


def test_a_response_time_is_kept_while_a_node_drains_and_goes_with_the_node() -> None:
    stays, drains, leaves = node("a"), node("b"), node("c")
    method = measured({stays: 1.0, drains: 2.0, leaves: 3.0})
    leaves.removed = True
    method.prepare([stays])
    method.prepare([stays, drains])
    times = [method.response_ms(each, 1.0) for each in (stays, drains, leaves)]
    assert times == [1.0, 2.0, None]


def test_a_failed_connect_is_the_worst_response_at_once() -> None:
    fast, slow = node("a"), node("b")
    method = measured({fast: 0.1, slow: 5.0})
    method.response_failed(fast, 1.0, refused=True)
    assert method.response_ms(fast, 1.0) is None
    names = picks(prepared(method, fast, slow), 150, keeps=True)
    assert Counter(names) == {"b": 150}
    method.response_measured(fast, 0.2, 2.0)
    assert method.response_ms(fast, 2.0) == 0.2  # what it was before says nothing any more


def test_silence_says_nothing_about_a_node_that_never_answered_from_here() -> None:
    known, unknown = node("a"), node("b")
    method = measured({known: 5.0})
    method.response_failed(unknown, 1.0, refused=False)
    names = picks(prepared(method, known, unknown), 100, keeps=True)
    assert Counter(names) == {"a": 50, "b": 50}
    method.response_failed(known, 1.0, refused=False)  # but this one did
    assert picks(prepared(method, known, unknown), 20, keeps=True) == 20 * "b"


def test_a_response_time_that_is_not_measured_again_is_not_believed_for_ever() -> None:
    fast, slow = node("a"), node("b")
    method = measured({fast: 1.0, slow: 4.0})
    method.response_measured(slow, 4.0, FRESH_S)
    assert method.response_ms(fast, FRESH_S - 1) == 1.0
    assert method.response_ms(fast, FRESH_S) is None
    method.prepare([fast, slow])
    fast.active = slow.active = 10
    assert method.pick(key(1), FRESH_S - 1) is fast
    fast.last_active = 1.0
    assert method.pick(key(1), FRESH_S) is slow  # equal, and it has waited longer


AVOIDING = ["least_connections", "weighted_least_connections", "fastest_response"]


@pytest.mark.parametrize("name", AVOIDING)
def test_a_node_that_fails_gets_few_and_is_tried_again_later(name: str) -> None:
    dead, others = node("a"), [node("b"), node("c")]
    method = METHODS[name]()
    method.prepare([dead, *others])

    def failures(begin: float, count: int) -> int:
        failed = 0
        for number in range(count):
            now = begin + number / 10
            picked = method.pick(key(number), now)
            assert picked is not None
            picked.session_started(now)
            if picked is dead:
                picked.session_ended()
                picked.connection_failed(number, now, now)
                failed += 1
        return failed

    assert failures(0.0, 150) <= 15
    assert dead.failed <= 15
    assert 1 <= failures(100.0, 150) <= 15  # tried again, and avoided again
    before = dead.active
    for number in range(30):  # it is back, and empty
        picked = method.pick(key(number), 200.0 + number)
        assert picked is not None
        picked.session_started(200.0 + number)
        picked.connection_opened(200.0 + number, 200.0 + number)
    assert dead.active - before == 30


def test_a_connection_that_opened_takes_a_failure_back_unless_it_is_older() -> None:
    a = node("a")
    a.connection_failed(1, 10.0, 10.0)
    a.connection_failed(1, 10.0, 10.0)
    a.connection_opened(9.0, 10.0)
    assert a.failing_now(10.0) == 2.0
    a.connection_opened(10.0, 10.0)
    assert a.failing_now(10.0) == 1.0
    assert a.failing_now(20.0) == 0.5
    assert a.failing_now(100.0) == 0.0
    for _ in range(50):
        a.connection_failed(1, 100.0, 100.0)
    assert a.failing_now(100.0) == FAILING_MAX
    assert a.failed == 52


def test_least_recently_active_takes_the_quietest() -> None:
    nodes = node("a"), node("b"), node("c")
    for number, other in enumerate(nodes):
        other.last_active = 10.0 - number
    method = prepared(LeastRecentlyActive(), *nodes)
    picked = [method.pick(key(n), 20.0) for n in range(1)]
    assert picked == [nodes[2]]
    nodes[2].last_active = 20.0
    assert method.pick(key(1), 20.0) is nodes[1]


def test_decisions_at_one_moment_are_still_spread_by_least_recently_active() -> None:
    nodes = node("a"), node("b"), node("c")
    method = prepared(LeastRecentlyActive(), *nodes)
    for number in range(9):
        picked = method.pick(key(number), 5.0)
        assert picked is not None
        picked.session_started(5.0)
    assert [other.active for other in nodes] == [3, 3, 3]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_none_without_nodes_and_when_all_are_full(name: str) -> None:
    method = METHODS[name]()
    assert method.pick(key(1), 0.0) is None
    method.prepare([])
    assert method.pick(key(1), 0.0) is None
    full = node("a", limit=1)
    full.session_started(0.0)
    method.prepare([full])
    assert method.pick(key(1), 0.0) is None
    full.session_ended()
    assert method.pick(key(1), 0.0) is full


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_nodes_that_change(name: str) -> None:
    method = METHODS[name]()
    nodes = [node(letter) for letter in "abcde"]
    for count in (5, 2, 4, 1):
        method.prepare(nodes[:count])
        assert set(picks(method, 200)) <= set("abcde"[:count])


def test_maglev_needs_no_memory_to_come_to_the_same_node() -> None:
    names = [picks(prepared(Maglev(), node("a"), node("b"), node("c")), 100) for _ in range(2)]
    assert names[0] == names[1]


def test_maglev_survives_weights_that_are_far_apart() -> None:
    names = Counter(picks(prepared(Maglev(), node("a", 1000), node("b", 1)), 5000))
    assert names["b"] < 50


def filled_slowly(members: list[Member], size: int) -> list[int]:
    """The paper's figure, entry by entry; each node's turns are at even distances."""
    counts = entries([weight for _, weight in members], size)
    permutations = []
    for name, _ in members:
        empty = memoryview(bytearray(b"\x01") * size)
        walked = [entry for walk in _free_entries(name, empty) for entry in walk]
        permutations.append(iter(dict.fromkeys(walked)))
    turns = sorted(
        (Fraction(2 * turn + 1, 2 * count), index)
        for index, count in enumerate(counts)
        for turn in range(count)
    )
    table: dict[int, int] = {}
    for _, index in turns:
        entry = next(entry for entry in permutations[index] if entry not in table)
        table[entry] = index
    return [table[entry] for entry in range(size)]


@pytest.mark.parametrize("weights", [[1], [1, 1, 1], [3, 1, 2, 1], [1, 2, 2], [1] * 20])
def test_maglevs_table_is_filled_as_the_paper_says(weights: list[int]) -> None:
    members = list(zip(ascii_lowercase, weights, strict=False))
    assert list(build(members, 2003)) == filled_slowly(members, 2003)


def test_every_node_has_a_permutation_of_all_entries() -> None:
    for letter in ascii_lowercase:
        view = memoryview(bytearray(b"\x01") * 2003)
        walked = [entry for walk in _free_entries(letter, view) for entry in walk]
        assert set(walked) == set(range(2003))


@pytest.mark.parametrize(
    ("weights", "size", "expected"),
    [
        ([1, 1, 1], 10, [4, 3, 3]),
        ([3, 1, 2], 12, [6, 2, 4]),
        ([1000, 1], 10, [9, 1]),  # at least one
        ([5, 1, 1, 1], 9, [6, 1, 1, 1]),
        ([1, 1, 1], 2, [1, 1, 0]),  # more nodes than entries
    ],
)
def test_entries_are_counted_out_by_the_largest_remainders(
    weights: list[int], size: int, expected: list[int]
) -> None:
    assert entries(weights, size) == expected


@pytest.mark.parametrize(
    "weights",
    [
        [1000] * 30 + [999],
        [1000] * 200 + [1],
        [1000, *range(1, 17)],
        [1] * 999 + [1000],
        list(range(1, 1001)),
    ],
    ids=["31 nodes", "201 nodes", "17 nodes", "one heavy", "1,000 nodes"],
)
def test_no_node_is_starved_however_odd_the_weights(weights: list[int]) -> None:
    method = Maglev()
    method.prepare(
        [
            Node("pool", f"node{number}", SERVER, 80, weight=weight)
            for number, weight in enumerate(weights)
        ]
    )
    table = method._table
    found = Counter(table)
    for index, weight in enumerate(weights):
        fair = len(table) * weight / sum(weights)
        assert abs(found[index] - fair) <= max(1, fair / 100)
        assert found[index]


def test_queries_do_not_wait_long_for_maglevs_table() -> None:
    members = [(f"node{number}", 1 + number % 7) for number in range(1000)]
    seconds = []
    for _ in range(5):
        begun = process_time()
        build(members)
        seconds.append(process_time() - begun)
    assert min(seconds) < 0.1  # 20 ms, on a machine that has nothing else to do


@pytest.mark.parametrize("name", ["maglev", "source_hash"])
def test_a_pick_costs_the_same_however_many_nodes_there_are(name: str) -> None:
    """Counted in calls of Python functions, which no busy machine changes."""

    def calls(size: int) -> int:
        method = METHODS[name]()
        nodes = [Node("pool", f"node{number}", SERVER, number) for number in range(1, size + 1)]
        method.prepare(nodes)
        count = 0

        def counted(frame: object, event: str, argument: object) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        setprofile(counted)
        try:
            for number in range(100):
                method.pick(key(number), 0.0)
        finally:
            setprofile(None)
        return count

    assert calls(1000) <= calls(2)


def test_a_nearly_full_pool_is_not_searched_entry_by_entry() -> None:
    nodes = [
        Node("pool", f"node{number}", SERVER, number, connection_limit=1)
        for number in range(1, 1001)
    ]
    method = Maglev()
    method.prepare(nodes)
    for other in nodes[1:]:
        other.session_started(0.0)
    assert {method.pick(key(number), 0.0) for number in range(200)} == {nodes[0]}
