# SPDX-License-Identifier: Apache-2.0
"""Every error in a configuration file names the file, the line, the field, and what to do."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from admin.documents.mistakes import MISTAKES_MAX
from admin.errors import ConfigError
from splitplane.config import load, parse
from support.work import lines_run


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Node(Strict):
    name: str
    port: Annotated[int, Field(ge=1, le=65535)]
    state: Literal["enabled", "down"] = "enabled"


class Pool(Strict):
    name: str
    nodes: list[Node]


class Portal(Strict):
    pools: list[Pool]
    pool: str | None = None
    limit: int | Literal["*"] = 0

    @model_validator(mode="after")
    def _known(self) -> Portal:
        if self.pool is not None and self.pool not in {pool.name for pool in self.pools}:
            raise PydanticCustomError(
                "reference",
                "there is no pool '{name}'; define it",
                {"name": self.pool, "at": ("pool",)},
            )
        return self


GOOD = """\
pool: web
pools:
  - name: web
    nodes:
      - {name: web1, port: 80}
      - name: web2
        port: 81
"""

# (what is wrong, text, the whole list of errors)
CASES = [
    (
        "out of range",
        GOOD.replace("81", "70000"),
        ["x.yaml:7: pools[0].nodes[1].port: 70000 is too large; give at most 65535"],
    ),
    (
        "missing",
        GOOD.replace("        port: 81\n", ""),
        ["x.yaml:6: pools[0].nodes[1].port: missing; add it"],
    ),
    (
        "misspelt",
        GOOD.replace("        port: 81", "        prot: 81"),
        [
            "x.yaml:6: pools[0].nodes[1].port: missing; add it",
            "x.yaml:7: pools[0].nodes[1].prot: unknown field; did you mean port?",
        ],
    ),
    (
        "unknown",
        GOOD + "colour: blue\n",
        ["x.yaml:8: colour: unknown field; remove it, or use one of: limit, pool, pools"],
    ),
    ("not a choice", GOOD.replace("port: 80}", "port: 80, state: off}"), None),
    (
        "given twice",
        GOOD + "pool: web\n",
        ["x.yaml:8: pool: given twice; keep one"],
    ),
    (
        "no such pool",
        GOOD.replace("pool: web\n", "pool: wbe\n"),
        ["x.yaml:1: pool: there is no pool 'wbe'; define it"],
    ),
    (
        "neither member of a union",
        GOOD + "limit: many\n",
        ["x.yaml:8: limit: 'many' is not a whole number; give one, or '*'"],
    ),
    ("empty", "", ["x.yaml:1: not a mapping; start with lines like `segment_id: 1`"]),
    ("a list", "- a\n", ["x.yaml:1: not a mapping; start with lines like `segment_id: 1`"]),
]


@pytest.mark.parametrize(
    ("text", "problems"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_an_error_names_file_line_field_and_remedy(text: str, problems: list[str] | None) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "x.yaml", Portal)
    if problems is not None:
        assert list(caught.value.problems) == problems
    assert caught.value.exit_code == 3


def test_all_errors_are_said_at_once_in_the_order_of_the_file() -> None:
    text = GOOD.replace("81", "0").replace("port: 80", "port: x").replace("pool: web", "pool: 3")
    with pytest.raises(ConfigError) as caught:
        parse(text, "x.yaml", Portal)
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [
        "x.yaml:1",
        "x.yaml:5",
        "x.yaml:7",
    ]


@pytest.mark.parametrize("word", ["no", "on", "1:30", "2026-01-01", "0x10", "010"])
def test_an_unquoted_word_is_a_word(word: str) -> None:
    """YAML 1.1 takes these for truth values, base 60, dates and octal numbers."""
    assert parse(GOOD.replace("pool: web", f"pool: {word}").replace("name: web", f"name: {word}"),
                 "x.yaml", Portal).pool == word  # fmt: skip


def test_a_character_that_yaml_does_not_have_is_told_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"^x\.yaml:3: .* 0x0; remove it$"):
        parse("a: 1\nb: 2\nc: \0\n", "x.yaml", Portal)


def test_a_good_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    assert load(path, Portal).pools[0].nodes[1].port == 81


@pytest.mark.parametrize(
    "text",
    [
        "a: [1\n",
        "a: *b\n",
        "\ta: 1\n",
        "a: \x07\n",
        "[" * 5000,
    ],
)
def test_what_is_not_yaml_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "x.yaml", Portal)
    (problem,) = caught.value.problems
    assert problem.startswith("x.yaml:")
    assert "\n" not in problem


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: there is no such file"):
        load(tmp_path / "none.yaml", Portal)
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        load(tmp_path, Portal)
    (tmp_path / "binary.yaml").write_bytes(b"pools:\n\xff\xfe\n")
    with pytest.raises(ConfigError, match=r"binary\.yaml:2: not UTF-8"):
        load(tmp_path / "binary.yaml", Portal)


def test_a_file_that_was_cut_off_is_refused_although_what_is_left_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "cs.yaml"
    for length in range(1, len(GOOD)):
        path.write_text(GOOD[:length])
        if GOOD[length - 1] != "\n":
            with pytest.raises(ConfigError, match=r"cs\.yaml:\d+: the last line has no end"):
                load(path, Portal)
    path.write_text(GOOD + "# the last line")
    line = GOOD.count("\n") + 1
    with pytest.raises(ConfigError, match=rf"cs\.yaml:{line}: .*end this line with a newline"):
        load(path, Portal)
    path.write_bytes((GOOD.replace("\n", "\r\n")).encode())
    assert load(path, Portal) is not None


@pytest.mark.timeout(20)
def test_a_device_without_an_end_is_not_read_for_ever() -> None:
    with pytest.raises(ConfigError, match=r"/dev/zero: larger than \d+ octets"):
        load(Path("/dev/zero"), Portal)


@pytest.mark.timeout(20)
def test_a_segment_may_start_from_a_pipe(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, GOOD.encode())
    os.close(writer)
    try:
        assert load(Path(f"/dev/fd/{reader}"), Portal) is not None
    finally:
        os.close(reader)


def test_an_alias_to_itself_ends() -> None:
    with pytest.raises(ConfigError, match="a: unknown field"):
        parse("a: &x [*x]\n", "x.yaml", Portal)


BASE = """\
base: &base {name: web1, port: 80, state: down}
pools:
  - name: web
    nodes:
"""


class WithBase(Portal):
    base: object = None


def nodes_of(text: str) -> list[Node]:
    return parse(BASE + text, "x.yaml", WithBase).pools[0].nodes


def test_what_a_mapping_says_itself_goes_before_what_is_merged_into_it() -> None:
    one, two, three = nodes_of(
        "      - {<<: *base, port: 81}\n"
        "      - {port: 82, <<: *base}\n"
        "      - {<<: [{port: 83}, *base], name: web3}\n"
    )
    assert (one.name, one.port, one.state) == ("web1", 81, "down")
    assert (two.name, two.port) == ("web1", 82)
    assert (three.name, three.port, three.state) == ("web3", 83, "down")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "{<<: *base, port: 81, port: 82}",
            "x.yaml:5: pools[0].nodes[0].port: given twice; keep one",
        ),
        ("{<<: *base, <<: *base}", "x.yaml:5: pools[0].nodes[0].<<: given twice; keep one"),
        (
            "{<<: web, name: a, port: 1}",
            "x.yaml:5: pools[0].nodes[0].<<: neither a mapping nor a list of mappings;"
            " give one of them",
        ),
        (
            "{<<: {port: 70000}, name: a}",
            "x.yaml:5: pools[0].nodes[0].port: 70000 is too large; give at most 65535",
        ),
    ],
)  # fmt: skip
def test_a_merge_that_is_wrong_is_said_where_it_is(line: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        nodes_of(f"      - {line}\n")
    assert list(caught.value.problems) == [problem]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("9" * 5000, "a number of 5000 digits; give a smaller one"),
        ("-" + "1" * 101, "a number of 102 digits; give a smaller one"),
        ("!!binary ODA=", "the tag !!binary is not allowed; write the value without it"),
        ("!!timestamp 2026-01-01",
         "the tag !!timestamp is not allowed; write the value without it"),
        ("!!python/name:os.system 1",
         "the tag !!python/name:os.system is not allowed; write the value without it"),
        ("!mine 80", "the tag !mine is not allowed; write the value without it"),
        ("!!int eighty", "'eighty' is no !!int; write the value without the tag"),
        ("!!set {80}", "the tag !!set is not allowed; write the value without it"),
        ("!!omap [a: 80]", "the tag !!omap is not allowed; write the value without it"),
    ],
)  # fmt: skip
def test_a_value_that_no_field_can_have_is_said_with_its_line_and_field(
    given: str, sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace("81", given), "x.yaml", Portal)
    assert list(caught.value.problems) == [f"x.yaml:7: pools[0].nodes[1].port: {sentence}"]


@pytest.mark.parametrize("given", ["!!int 81", "!!int '81'", "! 81"])
def test_a_tag_that_says_what_the_value_is_may_stand(given: str) -> None:
    if given == "! 81":  # the tag of "as it stands": text
        with pytest.raises(ConfigError, match="port"):
            parse(GOOD.replace("port: 81", "port: ! x"), "x.yaml", Portal)
        return
    assert parse(GOOD.replace("81", given), "x.yaml", Portal).pools[0].nodes[1].port == 81


@pytest.mark.parametrize(
    "text", ["a: 1\n---\na: 2\n", "? [a, b]\n: 1\n", "a: {{b: 1}: 2}\n", "a: &x 1\nb: *y\n"]
)
def test_what_yaml_has_and_a_configuration_has_not_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "x.yaml", Portal)
    (problem,) = caught.value.problems
    assert problem.startswith("x.yaml:")


def mistakes(number: int) -> str:
    wrong = "\n".join(f"      - {{name: {n}, port: {n}, limit: x}}" for n in range(number))
    return f"pools:\n  - name: web\n    nodes:\n{wrong}\n"


def problems_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "x.yaml", Portal)
    return list(caught.value.problems)


def test_so_many_mistakes_are_said_and_the_others_counted() -> None:
    problems = problems_of(mistakes(1000))
    assert len(problems) == MISTAKES_MAX + 1
    # of each node the name and the field that there is not, and of the first the port too
    assert problems[-1] == f"x.yaml: {2001 - MISTAKES_MAX} further mistakes are not shown"
    assert problems[0].startswith("x.yaml:4: pools[0].nodes[0]")


def test_twice_the_mistakes_are_twice_the_work() -> None:
    once, twice = (lines_run(partial(problems_of, mistakes(number))) for number in (200, 400))
    assert twice < 2.5 * once


def test_aliases_in_aliases_are_shown_by_their_beginning() -> None:
    """Written out, this would be larger than any memory."""
    bomb = "a: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(
        f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
    )  # fmt: skip
    problems = problems_of(bomb + "pools: [{name: *a29, nodes: []}]\npool: *a29\n")
    shown = "[[[[[[[...], [...], [...], [...], [...], [...], ...], [[.... is not text"
    assert [problem.split(": ", 1)[1] for problem in problems if "text" in problem] == [
        f"{field}: {shown}; put it in quotes" for field in ("pools[0].name", "pool")
    ]
