# SPDX-License-Identifier: Apache-2.0
"""The section `api` of cs.yaml and dfs.yaml, the token's file, and the frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from admin.answers import Identity
from admin.errors import ConfigError
from admin.link.config import ApiLinkConfig
from admin.link.messages import (
    Answer,
    Ask,
    Change,
    Event,
    Hello,
    LinkError,
    Welcome,
    encode,
    from_api,
    from_segment,
)
from admin.link.token import read_token


def config(url: str, **fields: Any) -> ApiLinkConfig:
    return ApiLinkConfig.model_validate({"url": url, "token_file": "segment.token", **fields})


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("https://lb.example.net", "wss://lb.example.net/api/v1/link"),
        ("https://lb.example.net:8404/", "wss://lb.example.net:8404/api/v1/link"),
        ("https://[2001:db8::1]:8404", "wss://[2001:db8::1]:8404/api/v1/link"),
        ("http://127.0.0.1:8404", "ws://127.0.0.1:8404/api/v1/link"),
        ("http://localhost:8404/lb", "ws://localhost:8404/lb/api/v1/link"),
        ("unix:/run/splitplane/api.sock", "ws://localhost/api/v1/link"),
    ],
)
def test_the_websocket_is_found_below_the_url(url: str, endpoint: str) -> None:
    assert config(url).endpoint == endpoint


def test_a_unix_socket_has_a_path() -> None:
    assert config("unix:/run/api.sock").socket == "/run/api.sock"
    assert config("https://a.example").socket is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("lb.example.net", "is not the URL of an API"),
        ("ftp://lb.example.net", "is not the URL of an API"),
        ("https://", "is not the URL of an API"),
        ("https://a.example:99999", "is not the URL of an API"),
        ("unix:api.sock", "give the whole path"),
        ("https://me:secret@a.example", "token_file"),
        ("https://a.example/?x=1", "remove what follows the path"),
        ("http://192.0.2.1:8404", "use https://, or add plain_text: true"),
    ],
)
def test_a_wrong_url_is_named_with_what_would_be_right(url: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config(url)


def test_a_token_in_a_url_is_in_no_message() -> None:
    with pytest.raises(ValidationError) as raised:
        config("https://me:secret@a.example")
    assert "secret" not in str(raised.value.errors(include_input=False))


def test_plain_text_to_another_machine_has_to_be_asked_for() -> None:
    assert config("http://192.0.2.1", plain_text=True).endpoint.startswith("ws://192.0.2.1")


def test_an_authority_is_for_https() -> None:
    with pytest.raises(ValidationError, match="only https:// has certificates"):
        config("unix:/run/api.sock", ca_file="ca.pem")


def token(path: Path, text: str, mode: int = 0o600) -> Path:
    path.touch(mode)
    path.chmod(mode)
    path.write_text(text)
    return path


def test_a_token_is_the_line_in_its_file(tmp_path: Path) -> None:
    assert read_token(token(tmp_path / "t", "splp_abc\n")) == "splp_abc"


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("splp_abc", 0o644, "chmod 600"),
        ("", 0o600, "no token"),
        ("two words", 0o600, "no token"),
        ("é", 0o600, "no token file"),
        ("x" * 5000, 0o600, "no token file"),
    ],
)
def test_a_wrong_token_file_is_refused(tmp_path: Path, text: str, mode: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_token(token(tmp_path / "t", text, mode))


def test_a_missing_token_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="splitplane token create"):
        read_token(tmp_path / "none")


@pytest.mark.parametrize(
    "message",
    [
        Welcome(release="1", generation=3),
        Change(generation=4, since=3, made_at=1.5, pools=[{"name": "a"}], gone={"pools": ["b"]}),
        Ask(id=7, command="flows", arguments={"limit": 3}),
    ],
)
def test_what_the_api_sends_is_understood(message: Welcome | Change | Ask) -> None:
    assert from_api(encode(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        Hello(identity=Identity(role="cs", segment_id=1, release="1", pid=2), host="a", group_id=1),
        Answer(id=7),
        Event(severity="info", kind="role", what="it is", time=1.5, subject={"segment": "cs-1"}),
    ],
)
def test_what_a_segment_sends_is_understood(message: Hello | Answer | Event) -> None:
    assert from_segment(encode(message)) == (message, "")


def test_an_answer_has_the_admin_sockets_line_behind_it() -> None:
    line = '{"ok":true,"data":[1,2]}'
    assert from_segment(f"{encode(Answer(id=7))}\n{line}") == (Answer(id=7), line)


@pytest.mark.parametrize("frame", ["", "[]", '{"type":"other"}', '{"type":"ask"}', "{"])
def test_what_is_no_message_is_said(frame: str) -> None:
    with pytest.raises(LinkError, match=r".+"):
        from_api(frame)


def test_fields_of_later_releases_are_passed_over() -> None:
    frame = '{"type":"welcome","release":"9","generation":1,"more":true}'
    assert from_api(frame) == Welcome(release="9", generation=1)
