# SPDX-License-Identifier: Apache-2.0
"""Rules, compiled, against the simplest interpreter that is right."""

from __future__ import annotations

import fnmatch
from typing import Any, Final

import pytest
import re2
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from control_segment.content.rule_config import MatchConfig, RuleConfig
from control_segment.content.rules import Rules
from control_segment.content.shadows import check_shadows, covers
from packets.http import RequestHead
from support.requests import head

# Few values, so that rules and requests meet
HOSTS: Final = ["a.example", "b.a.example", "c.b.a.example", "example", "other"]
PATTERNS: Final = [*HOSTS, "*.example", "*.a.example", "*"]
PATHS: Final = ["/", "/a", "/a/", "/a/b", "/a/b.png", "/ab", "/c"]
EXPRESSIONS: Final = ["^/a", "b$", r"\.png$", "^/(a|c)/?$", "(a+)+$"]
METHODS: Final = ["GET", "HEAD", "POST"]
VALUES: Final = ["1", "2", "*"]
NAMES: Final = ["x", "y"]


def some(values: list[str]) -> st.SearchStrategy[list[str]]:
    return st.just(list[str]()) | st.lists(st.sampled_from(values), max_size=3)


def pairs() -> st.SearchStrategy[dict[str, str]]:
    one = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), max_size=2)
    return st.just(dict[str, str]()) | one


matches = st.builds(
    MatchConfig,
    host=some(PATTERNS),
    path=some(PATHS),
    path_prefix=some(PATHS),
    path_regex=st.none() | st.sampled_from(EXPRESSIONS),
    method=some(METHODS),
    header=pairs(),
    query=pairs(),
    cookie=pairs(),
).filter(lambda match: match.has_conditions)  # fmt: skip


@st.composite
def rule_lists(draw: st.DrawFn) -> list[RuleConfig]:
    found = draw(st.lists(matches, max_size=12))
    return [
        RuleConfig(name=f"r{number}", match=match, refuse=True)
        for number, match in enumerate(found)
    ]


@st.composite
def heads(draw: st.DrawFn) -> RequestHead:
    query = "&".join(f"{name}={value}" for name, value in draw(pairs()).items())
    path = draw(st.sampled_from(PATHS)) + (f"?{query}" if query else "")
    cookies = "; ".join(f"{name}={value}" for name, value in draw(pairs()).items())
    headers = draw(pairs()) | ({"cookie": cookies} if cookies else {})
    host, method = draw(st.sampled_from([*HOSTS, ""])), draw(st.sampled_from(METHODS))
    return head(path, host, method, **headers)


def holds(match: MatchConfig, request: RequestHead) -> bool:
    """By the words of docs/design/0012, and nothing else."""
    queries, cookies = request.query_parameters, request.cookies
    values: list[tuple[str | None, str]] = []
    values += [(request.header(name), value) for name, value in match.header.items()]
    values += [(queries.get(name), value) for name, value in match.query.items()]
    values += [(cookies.get(name), value) for name, value in match.cookie.items()]
    any_of: list[tuple[Any, bool]] = [
        (match.host, any(_fits(request.host, pattern) for pattern in match.host)),
        (match.path, request.path in match.path),
        (match.path_prefix, any(request.path.startswith(each) for each in match.path_prefix)),
        (match.method, request.method in match.method),
        (match.path_regex, re2.search(match.path_regex or "", request.path) is not None),
    ]
    return all(found for given, found in any_of if given) and all(
        value is not None and wanted in ("*", value) for value, wanted in values
    )


def _fits(host: str, pattern: str) -> bool:
    return host != "" and fnmatch.fnmatchcase(host, pattern)


@given(rule_lists(), st.lists(heads(), min_size=1, max_size=5))
def test_the_first_rule_that_holds_decides(
    rules: list[RuleConfig], requests: list[RequestHead]
) -> None:
    compiled = Rules(rules)
    for request in requests:
        expected = next((rule.name for rule in rules if holds(rule.match, request)), None)
        found = compiled.first(request)
        assert (None if found is None else found.name) == expected
        for rule, each in zip(compiled.in_order, rules, strict=True):
            assert bool(rule.why_not(request)) is not holds(each.match, request)


@given(matches, matches, st.lists(heads(), min_size=1, max_size=8))
def test_a_rule_that_covers_another_one_takes_its_requests(
    wide: MatchConfig, narrow: MatchConfig, requests: list[RequestHead]
) -> None:
    assert covers(wide, wide)
    if covers(wide, narrow):
        for request in requests:
            assert holds(wide, request) or not holds(narrow, request)


@given(rule_lists())
@example([])
def test_a_rule_is_refused_if_and_only_if_an_earlier_one_covers_it(
    rules: list[RuleConfig],
) -> None:
    shadowed = [
        number
        for number, rule in enumerate(rules)
        if any(covers(earlier.match, rule.match) for earlier in rules[:number])
    ]
    if not shadowed:
        check_shadows("here", rules)
        return
    with pytest.raises(PydanticCustomError) as raised:
        check_shadows("here", rules)
    assert (raised.value.context or {})["at"][1] == shadowed[0]
