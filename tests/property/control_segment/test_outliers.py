# SPDX-License-Identifier: Apache-2.0
"""Ejection through any sequence of failures, successes, changes by people and health, and time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from admin.happened import Happened
from control_segment.config import PoolConfig
from control_segment.nodes import Node
from control_segment.outliers import Outliers
from control_segment.pools import Pool

NODES = 3
FAILURES, EJECTION_S, MAX_EJECTION_S = 2, 10, 25
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["fails", "fails twice"]), st.integers(0, NODES - 1)),
        st.tuples(st.just("opens"), st.integers(0, NODES - 1)),
        st.tuples(st.just("down"), st.integers(0, NODES - 1)),
        st.tuples(st.just("dead"), st.integers(0, NODES - 1)),
        st.tuples(st.just("enabled"), st.integers(0, NODES - 1)),
        st.tuples(st.just("time"), st.integers(1, 30)),
    ),
    max_size=60,
)


class Story:
    """A pool, and what is done to it; it is judged after every step, as a CS does."""

    def __init__(self, percent: int) -> None:
        document: dict[str, Any] = {
            "name": "web",
            "outliers": {
                "failures": FAILURES, "max_ejected_percent": percent, "ejection_s": EJECTION_S,
                "max_ejection_s": MAX_EJECTION_S,
            },
            "nodes": [
                {"name": f"n{n}", "address": f"10.1.1.{n + 2}", "port": 80} for n in range(NODES)
            ],
        }  # fmt: skip
        self.pool = Pool(PoolConfig.model_validate(document))
        self.nodes = list(self.pool.nodes.values())
        self.now = 100.0
        self.happened: list[Happened] = []
        self.changes = 0
        self.outliers = Outliers(lambda: {"web": self.pool}, self.happened, self._changed)
        self._serial = 0

    def _changed(self, now: float) -> None:
        self.changes += 1

    @property
    def ejected(self) -> list[Node]:
        return [node for node in self.nodes if node.is_ejected]

    def do(self, what: str, number: int) -> None:
        if what == "time":
            end = self.now + number
            while (timer := self.outliers.get_timer()) is not None and timer <= end:
                self.now = max(self.now, timer)
                self.outliers.handle_timer(self.now)
            self.now = end
            return
        node = self.nodes[number]
        if what.startswith("fails"):
            for _ in range(FAILURES if what == "fails twice" else 1):
                self._serial += 1
                if node.connection_failed(self._serial, self.now, self.now):
                    self.outliers.suspect(node, self.now)
        elif what == "opens":
            node.connection_opened(self.now, self.now)
        elif what == "dead":
            node.is_dead = not node.is_dead
            self.pool.candidates_changed()
        else:
            self.pool.set_nodes([node.name], weight=None, state=what)
            if what == "enabled":
                self.outliers.pardon(self.pool, [node], self.now)
        self.outliers.handle_timer(self.now)


def taking(nodes: Sequence[Node]) -> set[str]:
    return {node.name for node in nodes if node.takes_new_sessions}


@settings(max_examples=200)
@given(STEPS, st.sampled_from([30, 34, 67, 100]))
def test_whatever_happens_enough_nodes_take_sessions_and_all_come_back(
    steps: list[tuple[str, int]], percent: int
) -> None:
    story = Story(percent)
    for what, number in steps:
        before = set(story.ejected)
        story.do(what, number)
        assert len(story.ejected) <= NODES * percent // 100
        new = [node for node in story.ejected if node not in before]
        able = [node for node in story.nodes if node.is_able]
        usable = [node for node in able if not node.is_ejected]
        assert usable or not new  # nobody is ejected as the last one
        # those that are not ejected; if there are none, the others rather than nobody
        assert taking(story.nodes) == {node.name for node in usable or able}
        picked = story.pool.method.pick(bytes(38), story.now)
        assert (picked is not None) == bool(able)
        for node in story.ejected:
            assert node.record is not None
            assert story.now < node.record.until <= story.now + MAX_EJECTION_S
    story.do("time", MAX_EJECTION_S)
    assert story.ejected == []
    assert story.outliers.get_timer() is None
    begun = [each for each in story.happened if each.kind == "node_ejected"]
    assert len(begun) * FAILURES <= sum(
        {"fails": 1, "fails twice": FAILURES}.get(what, 0) for what, _ in steps
    )
