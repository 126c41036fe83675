# SPDX-License-Identifier: Apache-2.0
"""All that an object holds, at any depth, as one flat mapping: what "no state change" is held to.

A snapshot names each value by its path, so two of them show what differs.  Nobody chooses what is
looked at: whatever can be reached from the object is in it, but for code.
"""

from __future__ import annotations

import types
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final

from support.attributes import attribute_names

Snapshot = dict[str, object]

_PLAIN: Final = (int, float, str, bytes, bool, type(None), complex, range, Enum)
_CODE: Final = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.MethodWrapperType,
    property,
)


def snapshot(root: object, name: str) -> Snapshot:
    """Everything that can be reached from *root*."""
    found: Snapshot = {}
    seen: dict[int, tuple[str, object]] = {}  # keeps what it names alive: ids stay unique
    waiting: list[tuple[str, object]] = [(name, root)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, _PLAIN):
            found[path] = value
        elif isinstance(value, bytearray):
            found[path] = bytes(value)
        elif isinstance(value, _CODE):
            found[path] = getattr(value, "__qualname__", repr(type(value)))
        elif id(value) in seen:
            found[path] = f"the same as {seen[id(value)][0]}"
        else:
            seen[id(value)] = (path, value)
            found[path] = f"{type(value).__name__} {_length(value)}"
            waiting += _parts(path, value)
    return found


def differences(before: Snapshot, after: Snapshot) -> dict[str, tuple[object, object]]:
    """Paths whose values differ, with both; None where there is none."""
    return {
        path: (before.get(path), after.get(path))
        for path in before.keys() | after.keys()
        if before.get(path) != after.get(path)
    }


def _length(value: object) -> str:
    # a Counter is as good with a zero as without
    sized = isinstance(value, (Mapping, list, tuple, set, frozenset, deque))
    return f"of {len(value)}" if sized and not isinstance(value, Counter) else ""  # type: ignore[arg-type]


def _parts(path: str, value: object) -> Iterator[tuple[str, object]]:
    """What a value is made of, each part with its path."""
    if isinstance(value, Mapping):
        for key in value:
            yield f"{path}[{_key(key)}]", value[key]
    elif isinstance(value, (list, tuple, deque)):
        for number, part in enumerate(value):
            yield f"{path}[{number}]", part
    elif isinstance(value, (set, frozenset)):
        for part in value:
            yield f"{path}{{{_key(part)}}}", part
    for name in attribute_names(value):
        try:
            yield f"{path}.{name}", getattr(value, name)
        except AttributeError:
            continue  # a slot that was never filled


def _key(key: object) -> str:
    """A name for a key; an object's own is its place in memory, which is where it stays."""
    if isinstance(key, _PLAIN) or (isinstance(key, tuple) and not hasattr(key, "__dict__")):
        return repr(key)
    return f"{type(key).__name__} {id(key):x}"


__all__ = ["Snapshot", "differences", "snapshot"]
