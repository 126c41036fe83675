# SPDX-License-Identifier: Apache-2.0
"""Fold the steps between two lookups into one action.

p4c makes a table without a key of each action that a control calls and a node of each `if`; BMv2
takes locks, looks an empty key up and, with logging macros, tells so for each of the former.
But its actions can jump, so everything that a packet may go through between two lookups can be one
action:

    lookup -> if -> step -> if -> step -> lookup  =>  lookup -> one action -> lookup

What is done, and in which order, stays the same.  Where the steps end in several places the action
notes which, and conditionals behind it go there."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

Node = dict[str, Any]
Widths = dict[tuple[str, str], Any]  # of fields, in bits


class Jump(NamedTuple):
    """To a label, always or if a value is 0."""

    label: str
    value: Any = None


class Graph:
    """A pipeline's nodes, and what they do."""

    def __init__(self, pipeline: Node, program: Node) -> None:
        self.nodes = {node["name"]: node for kind in KINDS for node in pipeline[kind]}
        self.actions = {action["id"]: action for action in program["actions"]}
        self.uses = Counter(n for t in pipeline["tables"] for n in t["action_ids"])
        self.widths = field_widths(program)

    def is_step(self, name: str | None) -> bool:
        """A table that does one thing whatever comes."""
        node = self.nodes.get(name or "", {})
        return (
            node.get("key") == []
            and len(set(node["next_tables"].values())) == 1
            and node["default_entry"]["action_const"]
            and not node["default_entry"]["action_data"]
            and not node["with_counters"]
            and self.uses[node["default_entry"]["action_id"]] <= USES_MAX
        )

    def is_condition(self, name: str | None) -> bool:
        return "expression" in self.nodes.get(name or "", {})

    def next(self, name: str) -> list[str | None]:
        node = self.nodes[name]
        if self.is_condition(name):
            return [node["true_next"], node["false_next"]]
        return list(dict.fromkeys([*node["next_tables"].values(), node["base_default_next"]]))

    def primitives(self, name: str) -> list[Node]:
        action: Node = self.actions[self.nodes[name]["default_entry"]["action_id"]]
        return list(action["primitives"])


KINDS = ("tables", "conditionals")
# What is done more often stays one action of several tables, or it would be many times as long.
USES_MAX = 4
# What so many regions share stands in each of them; what more do is a region of its own.
COPIES_MAX = 2


def fold(program: Node) -> None:
    """Every pipeline, in place."""
    noted = 0
    for action in program["actions"]:
        look_at_fields(action, program)
    for pipeline in program["pipelines"]:
        graph = Graph(pipeline, program)
        leaders = find_leaders(graph, pipeline["init_table"])
        for leader in leaders:
            noted = fold_region(graph, leader, leaders, program, noted)
        keep_reachable(graph, pipeline)
    keep_used_actions(program)
    number_nodes(program)


def look_at_fields(action: Node, program: Node) -> None:
    """Its own jumps compare what needs no comparison no more."""
    sizes = {("local", str(n)): p["bitwidth"] for n, p in enumerate(action["runtime_data"])}
    widths = {**field_widths(program), **sizes}
    action["primitives"] = assemble(moved(action["primitives"], "own", widths))


def field_widths(program: Node) -> Widths:
    types = {kind["name"]: kind["fields"] for kind in program["header_types"]}
    return {
        (header["name"], field[0]): field[1]
        for header in program["headers"]
        for field in types[header["header_type"]]
    }


def keep_used_actions(program: Node) -> None:
    used = {n for p in program["pipelines"] for t in p["tables"] for n in t["action_ids"]}
    program["actions"] = [action for action in program["actions"] if action["id"] in used]


def number_nodes(program: Node) -> None:
    """Each kind has its own numbers, across pipelines."""
    for kind in KINDS:
        nodes = [node for pipeline in program["pipelines"] for node in pipeline[kind]]
        for number, node in enumerate(nodes):
            node["id"] = number


def find_leaders(graph: Graph, first: str) -> list[str]:
    """Where a region begins: at the start, behind a lookup, and where regions meet."""
    lookups = [n for n in graph.nodes if not graph.is_step(n) and not graph.is_condition(n)]
    starts = [first, *(n for name in lookups for n in graph.next(name))]
    leaders = [n for n in dict.fromkeys(starts) if n is not None and n not in lookups]
    while True:
        reached = Counter(name for leader in leaders for name in region(graph, leader, leaders))
        met = [name for name, count in reached.items() if count > COPIES_MAX]
        # the first of those that meet: the others come behind it
        behind = {n for name in met for n in region(graph, name, leaders)[1:]}
        new = [name for name in dict.fromkeys(met) if name not in behind]
        if not new:
            return leaders
        leaders += new


def region(graph: Graph, leader: str, leaders: list[str]) -> list[str]:
    """What is reached from a leader before a lookup or another leader, in an order in which each
    stands behind all that lead to it."""
    order: list[str] = []
    seen = set()

    def visit(name: str | None) -> None:
        if name is None or name in seen or (name != leader and name in leaders):
            return
        if not graph.is_step(name) and not graph.is_condition(name):
            return
        seen.add(name)
        for following in reversed(graph.next(name)):
            visit(following)
        order.append(name)

    visit(leader)
    return order[::-1]


def fold_region(graph: Graph, leader: str, leaders: list[str], program: Node, noted: int) -> int:
    names = region(graph, leader, leaders)
    leads_to_step: set[str] = set()
    for name in reversed(names):
        if graph.is_step(name) or any(n in leads_to_step for n in graph.next(name) if n in names):
            leads_to_step.add(name)
    body = [name for name in names if name in leads_to_step]
    if not body:
        return noted  # conditionals alone stay as they are
    exits = exits_of(graph, body)
    note = ["locals", f"exit_{noted}"] if len(exits) > 1 else None
    number = 1 + max(graph.actions)
    action = {"name": f"fold_{number}", "id": number, "runtime_data": []}
    action["primitives"] = assemble(listing(graph, body, exits, note))
    program["actions"].append(action)
    graph.actions[number] = action
    after = exits[0]
    if note is not None:
        program["header_types"][-1]["fields"].append([note[1], 8, False])
        after = dispatch(graph, exits, note, noted)
        noted += 1
    graph.nodes[leader] = step_table(leader, action, after)
    return noted


def exits_of(graph: Graph, body: list[str]) -> list[str | None]:
    """Where most ways lead to first: it is asked for first."""
    ways = Counter(n for name in body for n in graph.next(name) if n not in body)
    return [name for name, _ in ways.most_common()]


def listing(graph: Graph, body: list[str], exits: list[str | None], note: Any) -> list[Any]:
    """Labels, primitives and jumps."""
    lines: list[Any] = []
    for name in body:
        lines.append(name)
        if graph.is_step(name):
            own = graph.primitives(name)
            lines += moved(own, name, graph.widths)
            lines.append(Jump(label_of(graph.next(name)[0], body, exits)))
        else:
            yes, no = (label_of(n, body, exits) for n in graph.next(name))
            lines += test(graph.nodes[name]["expression"], yes, no, graph.widths)
    for place, _ in enumerate(exits):
        lines.append(f"exit {place}")
        if note is not None:
            lines.append(assign(note, place))
            lines.append(Jump("end"))
    return [*lines, "end"]


def label_of(name: str | None, body: list[str], exits: list[str | None]) -> str:
    return name if name in body and name is not None else f"exit {exits.index(name)}"


def moved(primitives: list[Node], name: str, widths: Widths) -> list[Any]:
    """An action's own jumps go to labels of its own."""
    targets = {int(p["parameters"][-1]["value"], 16) for p in primitives if p["op"] in JUMPS}
    lines: list[Any] = []
    for place, primitive in enumerate(primitives):
        if place in targets:
            lines.append(f"{name} {place}")
        if primitive["op"] not in JUMPS:
            lines.append(primitive)
            continue
        *value, to = primitive["parameters"]
        label, condition = f"{name} {int(to['value'], 16)}", is_true(*value)
        if condition is None:
            lines.append(Jump(label, *value))
        else:
            lines += [*test(condition, f"{name} {place} on", label, widths), f"{name} {place} on"]
    return [*lines, f"{name} {len(primitives)}"]


def is_true(value: Any = None) -> Any:
    """What a jump asks for as 1 or 0."""
    while value is not None and value.get("type") == "expression":
        value = value["value"]
    return value["right"] if value is not None and value.get("op") == "b2d" else None


JUMPS = ("_jump", "_jump_if_zero")


def test(condition: Any, yes: str, no: str, widths: Widths) -> list[Any]:
    """Jumps to `yes` or `no`.  A field that is 0 or not need not be compared, and is then looked at
    before the rest of an `and` or `or`."""
    while condition.get("type") == "expression":
        condition = condition["value"]
    operation, left, right = (condition.get(key) for key in ("op", "left", "right"))
    if operation == "not":
        return test(right, no, yes, widths)
    if operation in ("and", "or") and (is_plain(left, widths) or is_plain(right, widths)):
        middle = f"{id(condition)} right"
        first = (
            test(left, middle, no, widths)
            if operation == "and"
            else test(left, yes, middle, widths)
        )
        return [*first, middle, *test(right, yes, no, widths)]
    if operation == "d2b" and right["type"] in PLAIN:
        return [Jump(no, alone(right)), Jump(yes)]
    if operation in ("==", "!=") and left["type"] in PLAIN and right["type"] == "hexstr":
        bits, wanted = bits_of(left, widths), int(right["value"], 16)
        same, other = (yes, no) if operation == "==" else (no, yes)
        if wanted == 0 and bits < 32:
            return [Jump(same, alone(left)), Jump(other)]
        if wanted == 1 and bits == 1:
            return [Jump(other, alone(left)), Jump(same)]
    value = {"op": "b2d", "left": None, "right": {"type": "expression", "value": condition}}
    whole = {"type": "expression", "value": {"type": "expression", "value": value}}
    return [Jump(no, whole), Jump(yes)]


PLAIN = ("field", "local")  # an action's parameter is called a local inside of expressions


def alone(value: Node) -> Node:
    return {**value, "type": "runtime_data"} if value["type"] == "local" else value


def bits_of(value: Node, widths: Widths) -> int:
    name = value["value"] if value["type"] == "field" else [value["type"], str(value["value"])]
    bits = widths.get(tuple(name), 99)
    return bits if isinstance(bits, int) else 99


def is_plain(condition: Any, widths: Widths) -> bool:
    """Whether a field or parameter is all that is looked at."""
    jumps = test(condition, "yes", "no", widths)
    return len(jumps) == 2 and jumps[0].value["type"] != "expression"


def assign(field: Any, value: int) -> Node:
    parameters = [{"type": "field", "value": field}, {"type": "hexstr", "value": f"0x{value:02x}"}]
    return {"op": "assign", "parameters": parameters}


def assemble(lines: list[Any]) -> list[Node]:
    """Numbers for labels; a jump to the next line is none."""
    while True:
        kept = [
            line
            for place, line in enumerate(lines)
            if not (
                isinstance(line, Jump)
                and line.value is None
                and line.label in labels_at(lines, place + 1)
            )
        ]
        if len(kept) == len(lines):
            break
        lines = kept
    places, count = {}, 0
    for line in lines:
        if isinstance(line, str):
            places[line] = count
        else:
            count += 1
    return [as_primitive(line, places) for line in lines if not isinstance(line, str)]


def labels_at(lines: list[Any], place: int) -> set[str]:
    found = set()
    while place < len(lines) and isinstance(lines[place], str):
        found.add(lines[place])
        place += 1
    return found


def as_primitive(line: Node | Jump, places: dict[str, int]) -> Node:
    if not isinstance(line, Jump):
        return line
    to = {"type": "hexstr", "value": hex(places[line.label])}
    if line.value is None:
        return {"op": "_jump", "parameters": [to]}
    return {"op": "_jump_if_zero", "parameters": [line.value, to]}


def dispatch(graph: Graph, exits: list[str | None], note: Any, noted: int) -> str | None:
    """Conditionals that go where the action says."""
    follows = exits[-1]
    for place in reversed(range(len(exits) - 1)):
        name = f"exit_{noted}_{place}"
        value = {"type": "hexstr", "value": f"0x{place:02x}"}
        condition = {"op": "==", "left": {"type": "field", "value": note}, "right": value}
        graph.nodes[name] = {
            "name": name,
            "id": 0,
            "expression": {"type": "expression", "value": condition},
            "true_next": exits[place],
            "false_next": follows,
        }
        follows = name
    return follows


def step_table(name: str, action: Node, after: str | None) -> Node:
    entry = {"action_id": action["id"], "action_const": True}
    return {
        "name": name,
        "id": 0,
        "key": [],
        "match_type": "exact",
        "type": "simple",
        "max_size": 1,
        "with_counters": False,
        "support_timeout": False,
        "direct_meters": None,
        "action_ids": [action["id"]],
        "actions": [action["name"]],
        "base_default_next": after,
        "next_tables": {action["name"]: after},
        "default_entry": {**entry, "action_data": [], "action_entry_const": True},
    }


def keep_reachable(graph: Graph, pipeline: Node) -> None:
    reached: dict[str, None] = {}
    waiting = [pipeline["init_table"]]
    while waiting:
        name = waiting.pop(0)
        if name is not None and name not in reached:
            reached[name] = None
            waiting += graph.next(name)
    for kind in KINDS:
        wanted = [n for n in reached if graph.is_condition(n) == (kind == "conditionals")]
        pipeline[kind] = [graph.nodes[name] for name in wanted]
