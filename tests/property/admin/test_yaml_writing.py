# SPDX-License-Identifier: Apache-2.0
"""What is written as YAML is read again as it was, by this program and by other readers."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from admin.documents.yaml_text import read_yaml
from admin.documents.yaml_writing import yaml_text

ODD = ("", "yes", "No", "null", "~", "1", "010", "1:30", "2026-01-01", "- a", "a: b", "#", "0x1f",
       "1e3", ".inf", "<<", "=", "a\nb", " a", "é", "\U0001f600", "\x7f", "\x85", "\u2028", "\\x",
       '"', "'", "fd00::1", "192.0.2.1", "1.2", "true", "off", "@a", "%a",
       "!a", "&a", "*a", "|")  # fmt: skip
TEXTS = st.sampled_from(ODD) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**64), 2**64) | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_what_is_written_is_read_again(data: dict[str, Any]) -> None:
    text = yaml_text(data)
    document = read_yaml(text)
    assert (document.data, document.problems) == (data, [])
    assert yaml.safe_load(text) == data


@pytest.mark.parametrize("number", [0.5, -1.0, 1e-7, 1e30, float("inf"), float("-inf")])
def test_numbers_that_are_not_whole_stay_numbers(number: float) -> None:
    assert read_yaml(yaml_text({"a": number})).data == {"a": number}


def test_a_document_looks_as_a_person_would_write_it() -> None:
    pool = {"name": "web", "nodes": [{"name": "web-1", "address": "192.0.2.11", "port": 8080}]}
    assert yaml_text({"settings": {}, "pools": [pool], "empty": []}) == (
        "settings: {}\n"
        "pools:\n"
        "- name: web\n"
        "  nodes:\n"
        "  - name: web-1\n"
        "    address: 192.0.2.11\n"
        "    port: 8080\n"
        "empty: []\n"
    )
