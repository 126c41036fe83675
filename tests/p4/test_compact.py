# SPDX-License-Identifier: Apache-2.0
"""What scripts/p4_compact.py makes of an expression is worth the same."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from p4_expressions import Simplifier
from p4_temporaries import read_in_place

FIELDS = {"narrow": 8, "wide": 32}
PARAMETERS = [{"name": "given", "bitwidth": 16}]
WIDTHS = {("h", name): bits for name, bits in FIELDS.items()}
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
    "<<": lambda a, b: a << b,
    ">>": lambda a, b: a >> b,
}
COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "==": lambda a, b: a == b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
}


def number(value: int) -> Any:
    return {"type": "hexstr", "value": hex(value)}


def operation(name: str, left: Any, right: Any) -> Any:
    return {"type": "expression", "value": {"op": name, "left": left, "right": right}}


def masked(value: Any, bits: int) -> Any:
    return operation("&", value, number((1 << bits) - 1))


def choice(condition: Any, left: Any, right: Any) -> Any:
    value = {"op": "?", "cond": condition, "left": left, "right": right}
    return {"type": "expression", "value": value}


LEAVES = (
    st.sampled_from(sorted(FIELDS)).map(lambda name: {"type": "field", "value": ["h", name]})
    | st.just({"type": "local", "value": 0})
    | st.integers(0, 1 << 40).map(number)
)
SIZES = st.integers(1, 48)


def combined(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    ring = st.sampled_from(["+", "-", "*", "&", "|", "^"])
    conditions = st.builds(operation, st.sampled_from(sorted(COMPARISONS)), parts, parts)
    return (
        st.builds(operation, ring, parts, parts)
        | st.builds(operation, st.sampled_from(["<<", ">>"]), parts, SIZES.map(number))
        | st.builds(masked, parts, SIZES)
        | st.builds(operation, st.just("&"), parts, st.integers(0, 1 << 40).map(number))
        | st.builds(choice, conditions, parts, parts)
    )


EXPRESSIONS = st.recursive(LEAVES, combined, max_leaves=12)
VALUES = st.fixed_dictionaries(
    {name: st.integers(0, (1 << bits) - 1) for name, bits in {**FIELDS, "given": 16}.items()}
)


def worth(value: Any, values: dict[str, int]) -> int:
    """As BMv2 reckons: with numbers of any size, below zero too."""
    while value.get("type") == "expression":
        value = value["value"]
    kind = value.get("type")
    if kind == "hexstr":
        return int(value["value"], 16)
    if kind in ("field", "local", "runtime_data"):
        return values["given" if kind != "field" else value["value"][1]]
    left, right = worth(value["left"], values), worth(value["right"], values)
    if value["op"] == "?":
        return left if worth(value["cond"], values) else right
    return int({**OPERATIONS, **COMPARISONS}[value["op"]](left, right))


@given(EXPRESSIONS, VALUES)
def test_a_simpler_expression_is_worth_the_same(value: Any, values: dict[str, int]) -> None:
    simple = Simplifier(WIDTHS, PARAMETERS).simple(value)
    assert worth(simple, values) == worth(value, values)


@given(EXPRESSIONS, SIZES, VALUES)
def test_what_is_cut_anyway_has_the_same_low_bits(
    value: Any, wanted: int, values: dict[str, int]
) -> None:
    simple = Simplifier(WIDTHS, PARAMETERS).simple(value, wanted)
    assert (worth(simple, values) - worth(value, values)) % (1 << wanted) == 0


@given(EXPRESSIONS, VALUES)
def test_no_number_has_more_bits_than_said(value: Any, values: dict[str, int]) -> None:
    bits = Simplifier(WIDTHS, PARAMETERS).bits(value)
    assert bits is None or 0 <= worth(value, values) < 1 << bits


def test_a_concatenation_needs_no_mask() -> None:
    high, low = ({"type": "field", "value": ["h", name]} for name in ("wide", "narrow"))
    shifted = masked(operation("<<", masked(high, 40), number(8)), 40)
    whole = operation("|", shifted, masked(masked(low, 40), 8))
    simple = Simplifier(WIDTHS, []).simple(whole, 40)
    assert simple == operation("|", operation("<<", high, number(8)), low)


def _program(*primitives: Any) -> Any:
    register = {"name": "kept", "bitwidth": 32}
    action = {"runtime_data": [], "primitives": list(primitives)}
    return {"actions": [action], "register_arrays": [register]}


def _field(name: str) -> Any:
    return {"type": "field", "value": ["h", name]}


def _assign(value: Any) -> Any:
    return {"op": "assign", "parameters": [_field("tmp"), {"type": "expression", "value": value}]}


def _write(index: Any, value: Any) -> Any:
    return {"op": "register_write", "parameters": [{"value": "kept"}, index, value]}


def test_a_value_that_the_register_cuts_is_not_kept_first() -> None:
    value = operation("+", _field("wide"), _field("wide"))
    program = _program(_assign(value), _write(_field("narrow"), _field("tmp")))
    read_in_place(program, {**WIDTHS, ("h", "tmp"): 32})
    (left,) = program["actions"][0]["primitives"]
    assert left["parameters"][2]["value"] == value


def test_an_index_that_was_cut_is_kept_first() -> None:
    value = operation("+", _field("wide"), _field("wide"))
    program = _program(_assign(value), _write(_field("tmp"), _field("narrow")))
    read_in_place(program, {**WIDTHS, ("h", "tmp"): 32})
    assert len(program["actions"][0]["primitives"]) == 2


def test_what_something_jumps_to_is_kept_first() -> None:
    jump = {"op": "_jump", "parameters": [number(2)]}
    program = _program(jump, _assign(_field("wide")), _write(_field("narrow"), _field("tmp")))
    read_in_place(program, {**WIDTHS, ("h", "tmp"): 32})
    assert len(program["actions"][0]["primitives"]) == 3
