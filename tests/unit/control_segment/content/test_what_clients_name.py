# SPDX-License-Identifier: Apache-2.0
"""Rules about what is no request: server name and ALPN of TLS clients, what a plug-in has read."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from control_segment.content.conditions import Rule
from control_segment.content.rule_config import RuleConfig
from control_segment.content.rules import Rules
from control_segment.rule_trying import Words, try_words
from data_flow_segment.flows.application import Reader
from packets.tls import ClientHello
from ssmb.constants import APP_DATA_MAX, AppType
from support.octets import hellos
from support.segments.content_rig import ContentRig, content_config
from support.segments.dfs_double import CLIENT

SAMPLES = hellos.samples()
NAMED = sorted(name for name, sample in SAMPLES.items() if sample.server_name)
IMAGES: dict[str, Any] = {
    "name": "images",
    "match": {"server_name": ["*.example.com"]},
    "pool": "images",
}


def rule(name: str = "r", **match: Any) -> RuleConfig:
    return RuleConfig.model_validate({"name": name, "match": match, "refuse": True})


def ssl_rig(*rules: dict[str, Any], **more: Any) -> ContentRig:
    return ContentRig(content_config(kind="ssl", rules=list(rules), **more))


def asked(octets: bytes) -> bytes:
    """What a DFS asks with about a client that said this."""
    reading = Reader(AppType.SSL_SESSION_ID, b"", 16384).read(octets, truncated=False)
    assert len(reading.app_data) <= APP_DATA_MAX
    return reading.app_data


@pytest.mark.parametrize("client", NAMED)
def test_the_server_name_of_real_clients_chooses_the_pool(client: str) -> None:
    rig = ssl_rig(IMAGES)
    octets = SAMPLES[client].client
    assert rig.node(asked(octets)) == "img1"
    if len(octets) < 400:  # a whole frame fits a question
        assert rig.node(octets, port=2, parked=True) == "img2"


def test_a_hello_without_a_name_goes_to_the_virtual_servers_own_pool() -> None:
    rig = ssl_rig(IMAGES, {"name": "rest", "match": {"server_name": ["*"]}, "refuse": True})
    octets = SAMPLES["openssl, no name"].client
    assert rig.node(asked(octets)) == "web1"
    assert rig.node(octets, port=2, parked=True) == "web2"
    assert rig.node(asked(hellos.client_hello(hellos.server_name(b"other.org"))), port=3) == (
        "NOTAVAIL"
    )


def test_a_name_behind_all_that_fits_a_question_is_there() -> None:
    """Browsers shuffle their extensions."""
    share = hellos.extension(51, bytes(1216))
    more = hellos.extension(0x1234, bytes(600))
    name, alpn = hellos.server_name(b"WWW.example.com"), hellos.alpn(b"h2")
    octets = hellos.client_hello(share, more, alpn, name, session_id=bytes(32))
    rig = ssl_rig({"name": "h2", "match": {"alpn": ["h2"], **IMAGES["match"]}, "pool": "images"})
    assert rig.node(asked(octets)) == "img1"


def test_a_frame_with_a_part_of_the_hello_is_not_enough() -> None:
    rig = ssl_rig(IMAGES)
    octets = SAMPLES["curl"].client
    assert rig.node(octets[:300], parked=True) == "MORE"
    assert rig.node(b"\x16\x03\x01\x00\x05\x02", port=2, parked=True) == "UNKNOWN"


def test_alpn_is_one_of_those_that_the_client_offers() -> None:
    rules = Rules([rule("h2", alpn=["h2", "h3"]), rule("old", alpn=["http/1.0"])])
    for offered, name in ((("http/1.1", "h2"), "h2"), (("http/1.0",), "old"), ((), None)):
        found = rules.first(ClientHello(alpn=offered))
        assert (None if found is None else found.name) == name
    why = rules.in_order[0].why_not
    assert why(ClientHello()) == "the client offers no protocol by ALPN"
    assert why(ClientHello(alpn=("smtp",))) == "ALPN 'smtp' has none of its protocols"


def test_a_thousand_server_names_cost_no_thousand_comparisons(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules = Rules([rule(f"r{n}", server_name=[f"h{n}.example"]) for n in range(1000)])
    compared: list[str] = []
    original = Rule.holds

    def counted(self: Rule, request: Any) -> bool:
        compared.append(self.name)
        return original(self, request)

    monkeypatch.setattr(Rule, "holds", counted)
    found = rules.first(ClientHello(server_name="h700.example"))
    assert found is not None
    assert (found.name, compared) == ("r700", ["r700"])


def test_values_that_a_plug_in_has_read() -> None:
    rules = Rules(
        [
            rule("reads", said={"command": ["GET", "MGET"], "key": ["user:*"]}),
            rule("seven", said={"database": ["7"]}),
            rule("any", said={"database": ["*"]}),
        ]
    )
    for said, name in (
        ({"command": "GET", "key": "user:1"}, "reads"),
        ({"command": "GET", "key": "order:1"}, None),
        ({"command": "SET", "key": "user:1"}, None),
        ({"database": "7"}, "seven"),
        ({"database": ""}, "any"),
        ({"key": "user:1"}, None),
    ):
        found = rules.first(said)
        assert (None if found is None else found.name) == name, said
    assert rules.in_order[0].why_not({"key": "a"}) == "the client said no command"
    assert rules.in_order[1].why_not({"database": "8"}) == "database '8' is none of its values"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": "http", "rules": [IMAGES]}, "server_name is not read by kind http; its rules"),
        (
            {"kind": "ssl", "rules": [{**IMAGES, "match": {"host": ["a.b"]}}]},
            "host is not read by kind ssl; its rules can have server_name, alpn",
        ),
        (
            {
                "kind": "raw",
                "application": "redis",
                "rules": [{**IMAGES, "match": {"said": {"table": ["x"]}}}],
            },
            "redis says nothing that is named 'table'; there are: command, key, user, database",
        ),
        (
            {
                "kind": "ssl",
                "rules": [
                    IMAGES,
                    {**IMAGES, "name": "2", "match": {"server_name": ["a.example.com"]}},
                ],
            },
            "rule 2 can never match: rule images above it takes",
        ),
        (
            {
                "kind": "ssl",
                "rules": [
                    {**IMAGES, "match": {"alpn": ["h2", "h3"]}},
                    {**IMAGES, "name": "2", "match": {"alpn": ["h3"]}},
                ],
            },
            "rule 2 can never match",
        ),
        (
            {
                "kind": "raw",
                "application": "redis",
                "rules": [
                    {**IMAGES, "match": {"said": {"key": ["a*"]}}},
                    {**IMAGES, "name": "2", "match": {"said": {"key": ["ab*", "ac"]}}},
                ],
            },
            "rule 2 can never match",
        ),
        ({"kind": "cookie", "rules": [IMAGES]}, "rules needs kind http, ssl, raw"),
    ],
)
def test_a_mistake_is_named(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        content_config(**changes)


def test_wider_values_behind_narrower_ones_may_match() -> None:
    said = [{"key": ["ab*"]}, {"key": ["a*"]}, {"key": ["*"]}]
    rules = [{**IMAGES, "name": str(n), "match": {"said": each}} for n, each in enumerate(said)]
    content_config(kind="raw", application="redis", rules=rules)


def test_what_words_would_come_to() -> None:
    tls = content_config(kind="ssl", rules=[IMAGES])
    found = try_words(tls, "www", Words(server_name="A.Example.com."), CLIENT)
    assert (found.request, found.rule, found.pool) == ("TLS a.example.com", "images", "images")
    found = try_words(tls, "www", Words(server_name="b.org", alpn=("h2",)), CLIENT)
    assert found.request == "TLS b.org, ALPN h2"
    assert [each.why for each in found.passed] == ["server name 'b.org' is none of its server_name"]
    with pytest.raises(ValueError, match="reads a TLS client's server name and ALPN"):
        try_words(tls, "www", Words(b"GET / HTTP/1.1\r\n\r\n"), CLIENT)
    rules = [{**IMAGES, "match": {"said": {"key": ["user:*"]}}}]
    redis = content_config(kind="raw", application="redis", rules=rules)
    found = try_words(redis, "www", Words(said={"command": "GET", "key": "user:7"}), CLIENT)
    assert (found.request, found.pool) == ("command=GET key=user:7", "images")
    with pytest.raises(ValueError, match="name: command, key, user, database; give these"):
        try_words(redis, "www", Words(said={"table": "x"}), CLIENT)
