# SPDX-License-Identifier: Apache-2.0
"""How a HELLO is answered: by whether its CS is obeyed (`fencing`), once that cannot be forgotten
any more (`epochs`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from csmb.constants import ErrorCode
from csmb.messages import Hello
from data_flow_segment.counters import Counters
from data_flow_segment.peers.epochs import RoleEpochs
from data_flow_segment.peers.fencing import EPOCH_STEP_MAX, REFUSED, Verdict, claim_of
from data_flow_segment.peers.groups import Peers

_TOO_HIGH: Final = "a CS claims a role_epoch that no take-over leads to"


class Fence:
    """Judges claims."""

    def __init__(
        self,
        peers: Peers,
        epochs: RoleEpochs,
        counters: Counters,
        log: Callable[[str, str, float], None],
    ) -> None:
        """`log`: `QuietLog.add`."""
        self._peers = peers
        self._epochs = epochs
        self._counters = counters
        self._log = log

    def answer(self, hello: Hello, connection_id: int | None, now: float) -> int | None:
        """OK or NOTACTIVE; None: the claim on this connection waits for the disk.

        An unsealed HELLO, without a `connection_id`, is never obeyed, so nothing waits for it."""
        verdict = self._peers.judge(hello)
        if verdict in REFUSED:
            self._counters["cs_not_active"] += 1
            if verdict is Verdict.TOO_HIGH and connection_id is not None:
                self._note_too_high(hello, now)
            return ErrorCode.NOTACTIVE
        if connection_id is None or verdict is not Verdict.OBEYED:
            return ErrorCode.OK
        if self._epochs.is_kept(hello.group_id, claim_of(hello), now):
            return ErrorCode.OK
        self._epochs.wait(connection_id)
        return None

    def _note_too_high(self, hello: Hello, now: float) -> None:
        self._counters["cs_epoch_too_high"] += 1
        known = self._peers.group_of(hello.group_id).claim.role_epoch
        line = (
            f"{_TOO_HIGH}: CS {hello.segment_id} of group {hello.group_id} claims"
            f" {hello.role_epoch}, and the last was {known}. At most {EPOCH_STEP_MAX} more are"
            " obeyed; start it again"
        )
        self._log(_TOO_HIGH, line, now)
