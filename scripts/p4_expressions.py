# SPDX-License-Identifier: Apache-2.0
"""Leave out of expressions what cannot change their value.

p4c masks after each step and before each concatenation, since a number of BMv2 has any size:

    (((a & 0xffffffff) << 16) & 0xffffffff) | ((b & 0xffffffff) & 0xffff)   =>   (a << 16) | b

A mask stands only where its number can be too large (or below zero, as after `-`) and what asks for
it does not cut it anyway: of a sum's, a difference's or a product's low bits only the low bits of
its parts matter, and a field keeps no more bits than it has."""

from __future__ import annotations

from typing import Any

Node = dict[str, Any]
Widths = dict[tuple[str, str], Any]  # of fields, in bits
RING = ("+", "-", "*", "&", "|", "^", "~")  # low bits come of low bits


class Simplifier:
    """For one action's expressions, or for those outside of actions."""

    def __init__(self, widths: Widths, parameters: list[Node]) -> None:
        self.widths = widths
        self.parameters = [parameter["bitwidth"] for parameter in parameters]

    def simple(self, value: Any, wanted: int | None = None) -> Any:
        """The same number or, if `wanted`, one with as many same low bits."""
        if not isinstance(value, dict):
            return value
        if value.get("type") == "expression":
            inner = self.simple(value["value"], wanted)
            return {**value, "value": inner} if "op" in inner else inner
        if "op" not in value:
            return value
        if value["op"] == "&" and is_number(value["right"]):
            return self.masked(value["left"], number(value["right"]), value, wanted)
        return self.without_nothing(self.with_simple_parts(value, wanted))

    def masked(self, left: Any, mask: int, whole: Node, wanted: int | None) -> Any:
        size = mask.bit_length()
        ones = mask == (1 << size) - 1
        if ones and wanted is not None and size >= wanted:
            return self.simple(left, wanted)
        inner = self.simple(left, size)
        plain = stripped(inner)
        if plain.get("op") == "&" and is_number(plain["right"]):  # two masks are one
            both = number(plain["right"]) & mask
            return {**whole, "left": plain["left"], "right": constant(both)}
        bits = self.bits(inner)
        if ones and bits is not None and bits <= size:
            return inner
        return {**whole, "left": inner}

    def with_simple_parts(self, value: Node, wanted: int | None) -> Node:
        operation = value["op"]
        parts = {name: value[name] for name in ("left", "right", "cond") if name in value}
        needs: dict[str, int | None] = dict.fromkeys(parts)
        if operation in RING:
            needs = dict.fromkeys(parts, wanted)
        elif operation == "?":
            needs |= {"left": wanted, "right": wanted}
        elif operation == "<<" and wanted is not None and is_number(value["right"]):
            needs["left"] = max(0, wanted - number(value["right"]))
        return {**value, **{name: self.simple(parts[name], needs[name]) for name in parts}}

    def without_nothing(self, value: Node) -> Any:
        """`x | 0` and `x + 0` are x."""
        if value["op"] in ("|", "+") and is_number(value["right"]) and number(value["right"]) == 0:
            return value["left"]
        return value

    def bits(self, value: Any) -> int | None:
        """How many a number has at most; None if it may be below zero, or is of any size."""
        value = stripped(value)
        kind = value.get("type")
        if kind == "hexstr":
            return number(value).bit_length() if is_number(value) else None
        if kind == "field":
            size = self.widths.get(tuple(value["value"]))
            return size if isinstance(size, int) else None  # "*": as long as it comes
        if kind in ("local", "runtime_data"):
            return int(self.parameters[value["value"]])
        return self.bits_of_operation(value) if "op" in value else None

    def bits_of_operation(self, value: Node) -> int | None:
        operation = value["op"]
        if operation == "b2d":
            return 1
        left, right = self.bits(value["left"] or {}), self.bits(value["right"])
        if operation == "&":
            known = [size for size in (left, right) if size is not None]
            return min(known, default=None)
        if left is None or right is None:
            return None
        if operation in ("|", "^", "?"):
            return max(left, right)
        if operation == "+":
            return max(left, right) + 1
        if operation == "*":
            return left + right
        if operation in ("<<", ">>") and is_number(value["right"]):
            by = number(value["right"])
            return left + by if operation == "<<" else max(0, left - by)
        return None


def stripped(value: Any) -> Any:
    while isinstance(value, dict) and value.get("type") == "expression":
        value = value["value"]
    return value


def is_number(value: Any) -> bool:
    return bool(value["type"] == "hexstr" and not value["value"].startswith("-"))


def number(value: Node) -> int:
    return int(value["value"], 16)


def constant(value: int) -> Node:
    digits = f"{value:x}"
    return {"type": "hexstr", "value": f"0x{'0' * (len(digits) % 2)}{digits}"}


def simplify(program: Node, widths: Widths) -> None:
    """Every expression, in place."""
    for action in program["actions"]:
        simplifier = Simplifier(widths, action["runtime_data"])
        for primitive in action["primitives"]:
            primitive["parameters"] = assigned(primitive, simplifier)
    outside = Simplifier(widths, [])
    for parser in program["parsers"]:
        for state in parser["parse_states"]:
            for operation in state["parser_ops"]:
                if operation["op"] == "set":
                    operation["parameters"] = assigned(operation, outside)
    for pipeline in program["pipelines"]:
        for conditional in pipeline["conditionals"]:
            conditional["expression"] = outside.simple(conditional["expression"])


def assigned(primitive: Node, simplifier: Simplifier) -> list[Any]:
    """Its parameters; what is assigned to a field is cut there."""
    parts = primitive["parameters"]
    if primitive["op"] not in ("assign", "set"):
        return [as_parameter(part, simplifier, None) for part in parts]
    target, value = parts
    wanted = simplifier.bits(target) if target["type"] == "field" else None
    return [target, as_parameter(value, simplifier, wanted)]


def as_parameter(part: Any, simplifier: Simplifier, wanted: int | None) -> Any:
    """An expression is wrapped once more than inside of one; an action's own parameter is called
    otherwise."""
    if part["type"] != "expression":
        return part
    value = simplifier.simple(part["value"], wanted)
    if value["type"] == "local":
        return {"type": "runtime_data", "value": value["value"]}
    return value if value["type"] in ("field", "hexstr") else {**part, "value": value}
