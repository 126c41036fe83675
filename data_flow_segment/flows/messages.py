# SPDX-License-Identifier: Apache-2.0
"""DELETE, STATS and FLOW_STATE from what the target saw of a flow."""

from __future__ import annotations

from typing import Final

from data_flow_segment.targets.contract import FlowEntry, FlowState
from ssmb import messages
from ssmb.constants import FLOW_FLAGS, Carrier, ErrorCode, Flag
from ssmb.messages import Delete, Reap, Stats, Timeout

_HAS_STATS: Final = int(Flag.HAS_STATS)
_REPORTED: Final = int(Flag.OUTBOUND | Flag.ADD_TCP_OFFSETS)
_PROXY_SERVER: Final = int(Flag.PROXY_SERVER)
_WORD32: Final = 0xFFFFFFFF


def delete(state: FlowState, reason: int, error_code: int = 0) -> Delete:
    """The flow ended, with everything that was counted."""
    entry, counters, idle_ms, tcp_flags = state[:4]
    return Delete(
        error_code,
        entry.flags & _REPORTED | _HAS_STATS,
        entry.serial,
        *entry.signature,
        tcp_flags,
        reason,
        entry.opened_ms,
        idle_ms if idle_ms < _WORD32 else _WORD32,
        *counters,
        entry.seq_offset,
        entry.ack_offset,
        entry.ts_offset,
        entry.wscale_shift,
    )


def delete_uninstalled(entry: FlowEntry, reason: int, error_code: int) -> Delete:
    """The flow never got into the target."""
    return Delete(
        error_code,
        entry.flags & int(Flag.OUTBOUND),
        entry.serial,
        *entry.signature,
        0,
        reason,
        entry.opened_ms,
    )


def delete_unknown(asked: Reap | Timeout, reason: int) -> Delete:
    """There is no such flow, or the serial is over (6.7)."""
    flags = asked.flags & int(Flag.OUTBOUND)
    return Delete(int(ErrorCode.NOFLOW), flags, asked.serial, *asked.signature, 0, reason)


def stats(state: FlowState, error_code: int = 0) -> Stats:
    """The flow's counters so far (9.11)."""
    entry, counters, idle_ms, tcp_flags = state[:4]
    return Stats(
        error_code,
        entry.flags & _REPORTED | _HAS_STATS,
        entry.serial,
        *entry.signature,
        tcp_flags,
        0,
        entry.opened_ms,
        idle_ms if idle_ms < _WORD32 else _WORD32,
        *counters,
        entry.seq_offset,
        entry.ack_offset,
        entry.ts_offset,
        entry.wscale_shift,
    )


def alive(asked: Reap | Timeout) -> Stats:
    """A flow that only waits yet is active; it has no counters."""
    flags = asked.flags & int(Flag.OUTBOUND)
    return Stats(int(ErrorCode.CONNALIVE), flags, asked.serial, *asked.signature)


def flow_state(state: FlowState) -> messages.FlowState:
    """An installed flow, for SYNC (11.4)."""
    entry, _, idle_ms, tcp_flags = state[:4]
    is_assisted = entry.held and not entry.flags & _PROXY_SERVER
    return messages.FlowState._make(
        (
            0,
            entry.flags & (FLOW_FLAGS | _PROXY_SERVER),
            entry.serial,
            *entry.signature,
            tcp_flags,
            Carrier.CS if is_assisted else Carrier.DFS,
            *entry.translation,
            entry.opened_ms,
            idle_ms if idle_ms < _WORD32 else _WORD32,
        )
    )
