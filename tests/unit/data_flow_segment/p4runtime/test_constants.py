# SPDX-License-Identifier: Apache-2.0
"""What Python and the P4 program call by number is the same number."""

from __future__ import annotations

import re
from enum import IntEnum

import pytest

from data_flow_segment.targets.contract import PacketReason
from data_flow_segment.targets.p4runtime import constants, counters
from data_flow_segment.targets.p4runtime.constants import CloseBit, Operation, Outcome, Reason
from support.targets.p4_rows import P4_SOURCES, program_schema


def in_p4(file: str) -> dict[str, int]:
    """Every constant and every #define with a number."""
    text = (P4_SOURCES / "include" / file).read_text()
    found = re.findall(r"const (?:bit<\d+>|\w+) (\w+) = (\w+);|#define (\w+) (\d+)\b", text)
    return {name or other: int(value or number, 0) for name, value, other, number in found}


def with_prefix(prefix: str, numbers: dict[str, int]) -> dict[str, int]:
    names = {name: number for name, number in numbers.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): number for name, number in names.items()}


@pytest.mark.parametrize(
    ("file", "prefix", "ours"),
    [
        ("constants.p4", "REASON_", Reason),
        ("constants.p4", "OPERATION_", Operation),
        ("constants.p4", "COUNTER_", Outcome),
        ("track.p4", "CLOSE_", CloseBit),
    ],
)
def test_each_name_has_the_programs_number(file: str, prefix: str, ours: type[IntEnum]) -> None:
    numbers = with_prefix(prefix, in_p4(file))
    # the same bits at their place in a whole register
    numbers = {name: number for name, number in numbers.items() if number < 1 << 16}
    assert numbers
    assert numbers == {name: int(member) for name, member in ours.__members__.items()}


@pytest.mark.parametrize("name", ["PORT_AGENT", "CLONE_SESSION_AGENT", "INJECT_ARRIVAL"])
def test_what_leads_to_the_agent_is_the_programs(name: str) -> None:
    assert getattr(constants, name) == in_p4("constants.p4")[name]


def test_there_are_as_many_flows_and_outcomes_as_in_the_program() -> None:
    assert in_p4("sizes.p4")["FLOWS"] == constants.FLOWS
    assert in_p4("constants.p4")["COUNTERS"] == constants.OUTCOMES
    assert program_schema().size("flows") == 2 * constants.FLOWS


def test_outcomes_bear_the_contracts_names() -> None:
    named = set(Outcome) - {Outcome.NONE, Outcome.AGAIN}
    assert {outcome.counter for outcome in named} <= set(counters.MEANINGS)


def test_reasons_begin_with_the_contracts() -> None:
    others = {PacketReason.OF_NODE, PacketReason.KEPT}
    ours = {reason.name: int(reason) for reason in PacketReason if reason not in others}
    assert ours.items() <= {reason.name: int(reason) for reason in Reason}.items()
    # the program knows no nodes, and has no packet of that reason
    assert int(PacketReason.OF_NODE) not in {int(reason) for reason in Reason}
