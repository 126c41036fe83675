# SPDX-License-Identifier: Apache-2.0
"""BTF, the description of types that the kernel keeps with a map (Documentation/bpf/btf.rst): which
member of a key or a value lies where.  Pure: it reads octets."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

_HEADER: Final = struct.Struct("=HBBIIIII")
_MAGIC: Final = 0xEB9F
_TYPE: Final = struct.Struct("=III")
_PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _TYPEDEF, _ENUM64 = 2, 3, 4, 5, 6, 8, 19
_INT, _FLOAT, _FUNC_PROTO, _VAR, _DATASEC, _DECL_TAG = 1, 16, 13, 14, 15, 17
_QUALIFIERS: Final = (9, 10, 11, 18)  # volatile, const, restrict, type tag
_FIXED_TAIL: Final = {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}
_TAIL_PER_MEMBER: Final = {
    _STRUCT: 12, _UNION: 12, _ENUM: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12,
}  # fmt: skip
_POINTER_SIZE: Final = 8
_MEMBER: Final = struct.Struct("=III")
_ENUMERATOR: Final = struct.Struct("=Ii")


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a struct; `type` is how C would write it, with the name of a typedef."""

    name: str
    offset: int
    size: int
    type: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A key or a value; what is no struct is one member without a name."""

    size: int
    members: tuple[Member, ...]

    def at(self, name: str) -> slice:
        """Where a member lies."""
        (found,) = (member for member in self.members if member.name == name)
        return slice(found.offset, found.offset + found.size)


@dataclass(frozen=True, slots=True)
class _Type:
    name: str
    kind: int
    size_or_type: int
    tail: bytes


class Types:
    """The types of one object, by number."""

    def __init__(self, raw: bytes) -> None:
        magic, _, _, length, type_at, type_length, text_at, text_length = _HEADER.unpack_from(raw)
        if magic != _MAGIC:
            raise ValueError("this is no BTF of this machine's byte order")
        self._text = raw[length + text_at : length + text_at + text_length]
        self._types = [_Type("void", 0, 0, b"")]
        place, end = length + type_at, length + type_at + type_length
        while place < end:
            name, info, size_or_type = _TYPE.unpack_from(raw, place)
            kind, count = info >> 24 & 0x1F, info & 0xFFFF
            place += _TYPE.size
            tail = _FIXED_TAIL.get(kind, count * _TAIL_PER_MEMBER.get(kind, 0))
            found = _Type(self._string(name), kind, size_or_type, raw[place : place + tail])
            self._types.append(found)
            place += tail

    def shape(self, number: int) -> Shape:
        """What a map's key or value of this type looks like."""
        size = self._size(number)
        plain = self._types[self._resolved(number)]
        if plain.kind != _STRUCT:
            return Shape(size, (Member("", 0, size, self._written(number)),))
        return Shape(size, tuple(self._members(plain)))

    def enumerators(self, name: str) -> dict[str, int]:
        """Those of an enumeration; none if the object does not know it."""
        for known in self._types:
            if known.kind == _ENUM and known.name == name:
                pairs = _ENUMERATOR.iter_unpack(known.tail)
                return {self._string(text): value for text, value in pairs}
        return {}

    def _members(self, found: _Type) -> list[Member]:
        return [
            # the upper octet of an offset is the size of a bit field, of which there are none
            Member(
                self._string(name), (bits & 0xFFFFFF) // 8, self._size(number),
                self._written(number),
            )
            for name, number, bits in _MEMBER.iter_unpack(found.tail)
        ]  # fmt: skip

    def _string(self, offset: int) -> str:
        return self._text[offset : self._text.index(b"\0", offset)].decode()

    def _resolved(self, number: int) -> int:
        while self._types[number].kind in (_TYPEDEF, *_QUALIFIERS):
            number = self._types[number].size_or_type
        return number

    def _array(self, found: _Type) -> tuple[int, int]:
        element, _, count = _MEMBER.unpack(found.tail)
        return element, count

    def _size(self, number: int) -> int:
        found = self._types[self._resolved(number)]
        if found.kind == _ARRAY:
            element, count = self._array(found)
            return count * self._size(element)
        return _POINTER_SIZE if found.kind == _PTR else found.size_or_type

    def _written(self, number: int) -> str:
        found = self._types[number]
        if found.kind in _QUALIFIERS:
            return self._written(found.size_or_type)
        if found.kind == _ARRAY:
            element, count = self._array(found)
            return f"{self._written(element)}[{count}]"
        if found.kind == _STRUCT:
            inner = "; ".join(f"{m.type} {m.name} at {m.offset}" for m in self._members(found))
            return f"struct {{ {inner} }}"
        return found.name or f"kind {found.kind} of {self._size(number)} octets"
