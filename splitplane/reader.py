# SPDX-License-Identifier: Apache-2.0
"""Reads a CS's configuration in a process of its own: `python -m splitplane.reader NAME`.

A large file takes seconds to parse and to check, in C code that holds the interpreter's lock: in a
thread it would keep QUERYs waiting.  The text comes from the standard input.  The result is written
to the standard output in pieces that the CS takes one at a time (`splitplane.reading`): (kind,
content), pickled, behind its length.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from admin.errors import ConfigError
from control_segment.config import ControlSegmentConfig, PoolConfig, VirtualServerConfig
from splitplane.config import parse

LISTS: Final = ("pools", "virtual_servers")
"""The fields that come in pieces; the others come together, as "fields"."""

LENGTH_OCTETS: Final = 4
_AT_ONCE: Final = 200  # nodes or virtual servers in a piece: some 2 ms for the CS
_NICE: Final = 5  # QUERYs and packets go first


def main() -> None:
    """Write what the file says, or what is wrong with it."""
    with contextlib.suppress(OSError):  # also where the CS runs in real time
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.nice(_NICE)
    try:
        config = parse(sys.stdin.buffer.read().decode(), sys.argv[1], ControlSegmentConfig)
    except ConfigError as error:
        _write("problems", error.problems)
        return
    fields = ControlSegmentConfig.model_fields.keys() - set(LISTS)
    _write("fields", {name: getattr(config, name) for name in fields})
    for pools in _pieces(config.pools):
        _write("pools", pools)
    servers = config.virtual_servers
    for start in range(0, len(servers), _AT_ONCE):
        piece: Sequence[VirtualServerConfig] = servers[start : start + _AT_ONCE]
        _write("virtual_servers", piece)
    _write("end", None)


def _pieces(pools: Sequence[PoolConfig]) -> Iterator[list[PoolConfig]]:
    piece: list[PoolConfig] = []
    size = 0
    for pool in pools:
        piece.append(pool)
        size += 1 + len(pool.nodes)
        if size >= _AT_ONCE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _write(kind: str, content: object) -> None:
    octets = pickle.dumps((kind, content), pickle.HIGHEST_PROTOCOL)
    sys.stdout.buffer.write(len(octets).to_bytes(LENGTH_OCTETS, "big") + octets)


if __name__ == "__main__":
    main()
