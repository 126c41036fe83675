# SPDX-License-Identifier: Apache-2.0
"""What this target does by itself for each group (`Offload`), with the keys for it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from data_flow_segment.targets.contract import AskingPath, Offload
from data_flow_segment.targets.translation import Key
from ssmb.seal import Opener, Sealer

OWN_LANE: Final = 1  # the agent's is 0 (wire protocol 12.4)
SEALS_MAX: Final = 256  # of connections, most of which are not an active CS's any more
REFUSED_MAX: Final = 65536
"""As many as the `bpf` target remembers; the oldest yields."""


class Seals(NamedTuple):
    """Of one connection's keys."""

    sealer: Sealer
    opener: Opener


class Control(NamedTuple):
    """One group's."""

    offload: Offload
    seals: Seals | None


class Controls:
    """All groups'; it outlives the agent, as the data path does."""

    def __init__(self) -> None:
        self._by_group: dict[int, Control] = {}
        self._seals: dict[bytes, Seals] = {}  # by the key for what goes
        self._refused: OrderedDict[Key, float] = OrderedDict()

    def set(self, offload: Offload) -> None:
        """Carry out a command.  A CS may become active again with the keys that it had, whose
        counters go on then."""
        path, seals = offload.path, None
        if path is not None:
            seals = self._seals.pop(path.sealing_key, None)
            if seals is None:
                seals = Seals(Sealer(path.sealing_key, OWN_LANE), Opener(path.opening_key))
            if len(self._seals) >= SEALS_MAX:
                del self._seals[next(iter(self._seals))]
            self._seals[path.sealing_key] = seals
        self._by_group[offload.group_id] = Control(offload, seals)

    def told(self, group_id: int) -> Offload | None:
        """The last command about a group."""
        known = self._by_group.get(group_id)
        return None if known is None else known.offload

    def ends(self, group_id: int) -> bool:
        """Whether flows of this group end here."""
        known = self._by_group.get(group_id)
        return known is not None and known.offload.ends

    def asking(self, group_id: int) -> tuple[AskingPath, Sealer] | None:
        """How to ask a group's CS."""
        known = self._by_group.get(group_id)
        if known is None or known.offload.path is None or known.seals is None:
            return None
        return known.offload.path, known.seals.sealer

    def answering(self, address: bytes, port: int) -> Control | None:
        """Whose REPLYs come from there."""
        for control in self._by_group.values():
            path = control.offload.path
            if path is not None and (path.cs_ipaddr, path.cs_port) == (address, port):
                return control
        return None

    def refuse(self, session: Key, until: float) -> None:
        """Let the packets of a flow come up until then."""
        self._refused.pop(session, None)
        if len(self._refused) >= REFUSED_MAX:
            self._refused.popitem(last=False)
        self._refused[session] = until

    def is_refused(self, session: Key, now: float) -> bool:
        """Whether they come up now."""
        return self._refused.get(session, now) > now
