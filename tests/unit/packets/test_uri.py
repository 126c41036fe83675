# SPDX-License-Identifier: Apache-2.0
"""Targets in normal form, and their parameters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packets.uri import normal_path, path_parameters, query_parameters


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/a/b", "/a/b"),
        ("/%7euser/%41%2d", "/~user/A-"),
        ("/a%2fb", "/a%2Fb"),
        ("/%2e%2E/x", "/x"),
        ("/a/./b/../c", "/a/c"),
        ("/a/b/..", "/a/"),
        ("/a/.", "/a/"),
        ("/../../a", "/a"),
        ("/a//../b", "/a/b"),
        ("/..a/.b/...", "/..a/.b/..."),
        ("/a/..;x=1/b", "/a/..;x=1/b"),  # a parameter makes it another segment (RFC 3986 3.3)
        ("/a\\b", "/a%5Cb"),
        ("/a b|c", "/a%20b%7Cc"),
        ("/\N{LATIN SMALL LETTER U WITH DIAERESIS}", "/%C3%BC"),
        ("/%2%35", "/%2525"),
        ("*", "*"),
        ("", ""),
    ],
)
def test_normal_form(path: str, normal: str) -> None:
    assert normal_path(path) == normal


@given(path=st.text("/.%25eEfF;a\\\N{EURO SIGN}\ud800", max_size=30).map(lambda text: "/" + text))
def test_a_normal_form_is_its_own(path: str) -> None:
    normal = normal_path(path)
    assert normal_path(normal) == normal
    assert normal.isascii()
    assert not {".", ".."} & set(normal.split("/"))


def test_parameters_of_a_path() -> None:
    path = "/shop;v=1.1/cart;jsessionid=A%3d1;jsessionid=B;flag;=x"
    assert path_parameters(path) == {"v": "1.1", "jsessionid": "A=1", "flag": ""}
    assert path_parameters("/shop/cart") == {}


def test_parameters_of_a_query() -> None:
    query = "a=1&a=2&b=x+y%20z&c&=d&e=%C3%BC&f=%FF%"
    assert query_parameters(query) == {
        "a": "1",
        "b": "x y z",
        "c": "",
        "": "d",
        "e": "\N{LATIN SMALL LETTER U WITH DIAERESIS}",
        "f": "\N{REPLACEMENT CHARACTER}%",
    }
    assert query_parameters("") == {}


def test_only_so_many_parameters_of_a_query() -> None:
    names = [f"a{number}" for number in range(600)]
    assert list(query_parameters("&".join(names))) == names[:512]
