# SPDX-License-Identifier: Apache-2.0
"""What a configuration may say about pairs: `control_segment.config` has the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from control_segment.references import wrong


class MemberPart(Protocol):
    """A DFS."""

    @property
    def address(self) -> str: ...
    @property
    def pair(self) -> str | None: ...
    @property
    def multipath(self) -> str | None: ...


def check_teams(members: Sequence[MemberPart]) -> None:
    """A pair is two addresses of DFSs or more, and its name is no multipath's."""
    pairs = Counter(each.pair for each in members if each.pair)
    paths = Counter(each.multipath for each in members if each.multipath)
    for index, each in enumerate(members):
        for field, name, counts in (
            ("pair", each.pair, pairs),
            ("multipath", each.multipath, paths),
        ):
            if name and counts[name] < 2:
                raise wrong(
                    f"{field} {name!r} has one member; name it at every data flow segment"
                    " that belongs to it",
                    "data_flow_segments",
                    index,
                    field,
                )
        if each.multipath in pairs:
            raise wrong(
                f"{each.multipath!r} is the name of a pair; give the multipath another one",
                "data_flow_segments",
                index,
                "multipath",
            )
