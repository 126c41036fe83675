# SPDX-License-Identifier: Apache-2.0
"""What a member is sent about another one's flow (wire protocol 14.2)."""

from __future__ import annotations

from typing import Final

from control_segment.flows import Flow
from control_segment.wire import head_flags, signature_of, unpack_translation
from ssmb.messages import NewFlow, Reap

SPARE_IDLE_S: Final = 3600
"""The idle timeout of a spare, or twice the flow's if that is more: a spare sees no packets while
its flow is busy elsewhere, so its end says nothing, and it is sent again.  It only bounds for how
long one stays whose REAP was lost."""

_AT_ONCE_MS: Final = 1  # a spare that got a packet this very moment reports that instead
_SECONDS_MAX: Final = 0xFFFF


def newflow(flow: Flow, idle_s: int = 0) -> NewFlow:
    """Return what enters a flow at a DFS; as a spare if it is to stay for so long (in seconds)."""
    translation = unpack_translation(flow.tail)
    if idle_s:
        longest = min(max(idle_s, 2 * flow.idle_s), _SECONDS_MAX)
        translation = translation._replace(idle_timeout=longest)
    signature = signature_of(flow.key)
    fields = (0, head_flags(flow.head), flow.serial, *signature, 0, 0, *translation)
    return NewFlow._make(fields)


def removal(key: bytes, serial: int) -> Reap:
    """Return what takes a spare out: its flow is over."""
    return Reap(0, 0, serial, *signature_of(key), idle_limit=_AT_ONCE_MS)
