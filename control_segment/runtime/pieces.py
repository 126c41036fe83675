# SPDX-License-Identifier: Apache-2.0
"""A configuration that another process has read, piece by piece: the CS takes one at a time, and
QUERYs are answered in between.

A piece is (kind, content), pickled, behind its length.  It comes from a process that this one
started, of the same release.  What was read before (`Remembered`) is named only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import sys
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Any, BinaryIO, Final, TypeAlias, TypeVar

from pydantic import BaseModel

from admin.errors import CommandError, ConfigError
from control_segment.config import GroupConfig, PoolConfig, VirtualServerConfig
from control_segment.runtime.children import ended, start_module

LISTS: Final = ("pools", "virtual_servers")
"""The fields that come in pieces; the others come together, as "fields"."""

_LENGTH_OCTETS: Final = 4
_AT_ONCE: Final = 200  # nodes or virtual servers in a piece: some 2 ms for the CS
_NAMES_AT_ONCE: Final = 2000  # likewise
_PRINT_OCTETS: Final = 16
_NICE: Final = 5  # QUERYs and packets go first

Prints: TypeAlias = Mapping[str, Mapping[str, bytes]]  # by field and name
ItemT = TypeVar("ItemT", PoolConfig, VirtualServerConfig)


# --- the process that reads -----------------------------------------------------------------------


def step_aside() -> None:
    """Let the CS go first, also where it runs in real time."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with contextlib.suppress(OSError):  # the example unit's filter of system calls refuses both
        os.nice(_NICE)


def write_config(config: GroupConfig, out: BinaryIO, known: Prints | None = None) -> None:
    """Write what was read; *known*: of what is named only.  None: the other side remembers
    nothing."""
    fields = type(config).model_fields.keys() - set(LISTS)
    _write("fields", {name: getattr(config, name) for name in fields}, out)
    pools, servers = config.pools, config.virtual_servers
    if known is not None:
        pools = _others("pools", pools, known, out)
        servers = _others("virtual_servers", servers, known, out)
    for piece in _pieces(pools):
        _write("pools", piece, out)
    for start in range(0, len(servers), _AT_ONCE):
        some: Sequence[VirtualServerConfig] = servers[start : start + _AT_ONCE]
        _write("virtual_servers", some, out)
    _write("end", None, out)


def _others(
    field: str, items: tuple[ItemT, ...], known: Prints, out: BinaryIO
) -> tuple[ItemT, ...]:
    """Name all, and return those that are not known."""
    prints = {item.name: fingerprint(item) for item in items}
    before = known.get(field, {})
    others = {name: each for name, each in prints.items() if before.get(name) != each}
    names = list(prints)
    for start in range(0, len(names), _NAMES_AT_ONCE):
        _write("names", (field, names[start : start + _NAMES_AT_ONCE]), out)
    for start in range(0, len(others), _NAMES_AT_ONCE):
        some = islice(others.items(), start, start + _NAMES_AT_ONCE)
        _write("prints", (field, dict(some)), out)
    return tuple(item for item in items if item.name in others)


def fingerprint(item: BaseModel) -> bytes:
    """The same only of what is the same, in the same order."""
    return blake2b(item.model_dump_json().encode(), digest_size=_PRINT_OCTETS).digest()


def read_known(stream: BinaryIO) -> Prints:
    """What the other side remembers, before what is to be read."""
    length = int.from_bytes(stream.read(_LENGTH_OCTETS), "big")
    known: Prints = pickle.loads(stream.read(length))
    return known


def write_problems(problems: Sequence[str], out: BinaryIO) -> None:
    """Write what is wrong with it."""
    _write("problems", tuple(problems), out)


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


def _write(kind: str, content: object, out: BinaryIO) -> None:
    octets = pickle.dumps((kind, content), pickle.HIGHEST_PROTOCOL)
    out.write(len(octets).to_bytes(_LENGTH_OCTETS, "big") + octets)


# --- the CS ---------------------------------------------------------------------------------------


class Remembered:
    """What was read before, so that only the rest has to be taken again."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, object]] = {name: {} for name in LISTS}
        self.prints: dict[str, dict[str, bytes]] = {name: {} for name in LISTS}

    def packed(self) -> bytes:
        """For `read_known`."""
        octets = pickle.dumps(self.prints, pickle.HIGHEST_PROTOCOL)
        return len(octets).to_bytes(_LENGTH_OCTETS, "big") + octets

    def merged(
        self,
        names: Mapping[str, list[str]],
        prints: Mapping[str, Mapping[str, bytes]],
        lists: Mapping[str, Sequence[Any]],
    ) -> dict[str, tuple[object, ...]]:
        """The whole lists, which are remembered from now on."""
        for field in LISTS:
            items = self.items[field] | {item.name: item for item in lists[field]}
            known = {**self.prints[field], **prints[field]}
            self.items[field] = {name: items[name] for name in names[field]}
            self.prints[field] = {name: known[name] for name in names[field]}
        return {field: tuple(items.values()) for field, items in self.items.items()}


async def read_in_process(
    module: str, octets: bytes, name: str, *arguments: str, remembered: Remembered | None = None
) -> dict[str, Any]:
    """The fields of what `python -m MODULE NAME ...` makes of its standard input; ConfigError with
    what is wrong, CommandError if no process can do it.  *name*: what is read, for people;
    *remembered*: is written before it."""
    try:
        process = await start_module(module, name, *arguments)
    except OSError as error:  # too many files or processes, no memory, no permission
        raise CommandError(
            f"{name}: no process could be started to read it: {sys.executable}: {error.strerror}"
        ) from None
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        if remembered is not None:
            process.stdin.write(remembered.packed())
        process.stdin.write(octets)
        await process.stdin.drain()
        process.stdin.close()
        return await _take(process.stdout, remembered)
    except (EOFError, OSError, pickle.UnpicklingError):
        code = await process.wait()
        raise CommandError(
            f"{name}: the process that reads it ended early, with code {code}; the log may say why"
        ) from None
    finally:
        await ended(process)


async def _take(stream: asyncio.StreamReader, remembered: Remembered | None) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    lists: dict[str, list[object]] = {name: [] for name in LISTS}
    names: dict[str, list[str]] = {name: [] for name in LISTS}
    prints: dict[str, dict[str, bytes]] = {name: {} for name in LISTS}
    while True:
        length = int.from_bytes(await stream.readexactly(_LENGTH_OCTETS), "big")
        kind, content = pickle.loads(await stream.readexactly(length))
        if kind == "problems":
            raise ConfigError(content)
        if kind == "fields":
            fields = content
        elif kind == "names":
            names[content[0]] += content[1]
        elif kind == "prints":
            prints[content[0]] |= content[1]
        elif kind == "end" and remembered is not None:
            return fields | remembered.merged(names, prints, lists)
        elif kind == "end":
            return fields | {name: tuple(items) for name, items in lists.items()}
        else:
            lists[kind] += content
        await asyncio.sleep(0)  # what is in the buffer already is not waited for
