# SPDX-License-Identifier: Apache-2.0
"""What rules cost, and what they say of requests that they do not take."""

from __future__ import annotations

from typing import Any

import pytest

from control_segment.content.conditions import Rule
from control_segment.content.patterns import compiled
from control_segment.content.rule_config import RuleConfig
from control_segment.content.rules import Rules
from support.requests import head


def rule(name: str = "r", **match: Any) -> RuleConfig:
    return RuleConfig.model_validate({"name": name, "match": match, "refuse": True})


def many(form: str, count: int = 1000) -> list[RuleConfig]:
    """So many rules of one of the forms that people write."""
    forms: dict[str, Any] = {
        "path": lambda n: {"path": [f"/p{n}"]},
        "prefix": lambda n: {"path_prefix": [f"/p{n}/"]},
        "host": lambda n: {"host": [f"h{n}.example"]},
        "wildcard": lambda n: {"host": [f"*.h{n}.example"]},
        "host and path": lambda n: {"host": [f"h{n}.example"], "path_prefix": ["/"]},
        "path of one host": lambda n: {"host": ["h7.example"], "path_prefix": [f"/p{n}/"]},
        "cookie": lambda n: {"cookie": {"c": str(n)}},
        "header": lambda n: {"header": {"x-tenant": str(n)}},
    }
    return [rule(f"r{number}", **forms[form](number)) for number in range(count)]


@pytest.mark.parametrize(
    "form",
    ["path", "prefix", "host", "wildcard", "host and path", "path of one host", "cookie", "header"],
)
def test_a_thousand_rules_cost_no_thousand_comparisons(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = Rules(many(form))
    compared: list[str] = []
    original = Rule.holds

    def counted(self: Rule, request: Any) -> bool:
        compared.append(self.name)
        return original(self, request)

    monkeypatch.setattr(Rule, "holds", counted)
    path = {"path": "/p998", "prefix": "/p998/x", "path of one host": "/p998/x"}.get(form, "/")
    host = {
        "host": "h998.example",
        "host and path": "h998.example",
        "path of one host": "h7.example",
        "wildcard": "a.b.h998.example",
    }.get(form, "www.example")
    found = rules.first(head(path, host, cookie="c=998", x_tenant="998"))
    assert found is not None
    assert found.name == "r998"
    assert len(compared) <= 2


def test_hosts_are_found_whatever_was_asked_for_before() -> None:
    """More hosts than are remembered, and one that is longer than any name of the DNS."""
    rules = Rules([rule("one", host=["h7.example"]), rule("any", host=["*.example"])])
    for _ in range(2):
        for number in range(1000):
            found = rules.first(head("/", f"h{number}.example"))
            assert found is not None
            assert found.name == ("one" if number == 7 else "any")
    for host, name in ((f"{'h.' * 4000}example", "any"), ("h" * 8000, None), ("", None)):
        found = rules.first(head("/", host))
        assert (None if found is None else found.name) == name


@pytest.mark.parametrize("host", ["example", ".example", "xexample", "x.example.org"])
def test_at_least_a_character_stands_for_an_asterisk(host: str) -> None:
    assert Rules([rule(host=["*.example"])]).first(head("/", host)) is None


def test_an_expression_takes_linear_time_whatever_it_is() -> None:
    """Python's `re` would take 2^30 steps for this one."""
    assert compiled("(a+)+$").search(b"a" * 5000 + b"b") is None
    with pytest.raises(ValueError, match="no regular expression of RE2"):
        compiled(r"(?=a)b")
    with pytest.raises(ValueError, match="no regular expression of RE2"):
        compiled(r"(a)\1")


@pytest.mark.parametrize(
    ("match", "why"),
    [
        ({"host": ["a.example"]}, "host 'www.example.com' is none of its hosts"),
        ({"path": ["/b"]}, "path '/a' is none of its paths"),
        ({"path_prefix": ["/b"]}, "path '/a' begins with none of its path_prefix"),
        ({"path_regex": "^/b"}, "path '/a' does not match '^/b'"),
        ({"method": ["PUT", "POST"]}, "method 'GET' is not POST or PUT"),
        ({"header": {"X-Beta": "1"}}, "it has no header x-beta"),
        ({"header": {"accept": "x"}}, "header accept has another value"),
        ({"query": {"v": "2"}}, "it has no query v"),
        ({"cookie": {"SID": "secret"}}, "cookie SID has another value"),
        ({"path": ["/a"], "cookie": {"SID": "*"}}, ""),
    ],
)
def test_it_says_why_a_rule_does_not_take_a_request(match: dict[str, Any], why: str) -> None:
    request = head("/a", cookie="SID=1", accept="*/*")
    (compiled_rule,) = Rules([rule(**match)]).in_order
    assert compiled_rule.why_not(request) == why


def test_a_host_is_compared_without_port_and_case() -> None:
    rules = Rules([rule(host=["*.Example.com"])])
    assert rules.first(head(host="A.b.EXAMPLE.com:8080")) is not None
    assert rules.first(head(host="example.com")) is None
    assert rules.first(head(host="")) is None


def test_counts_go_on_where_a_rule_keeps_its_name() -> None:
    before = Rules([rule("a", path=["/a"]), rule("b", path=["/b"])])
    for each in before.in_order:
        each.matched = 5
    after = Rules([rule("b", path=["/c"]), rule("c", path=["/d"])], before)
    assert [each.matched for each in after.in_order] == [5, 0]
