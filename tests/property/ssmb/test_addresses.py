# SPDX-License-Identifier: Apache-2.0
"""Whatever the text, an address is what Python's ipaddress makes of it."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from ssmb.addresses import from_text, octets_of, to_text

PART = st.one_of(
    st.integers(0, 300).map(str),
    st.sampled_from(["", "00", "01", "+1", " 1", "1 ", "1_0", "-0", "\u0661", "0x1", "256"]),
)
DOTTED = st.lists(PART, min_size=1, max_size=5).map(".".join)
TEXT = st.one_of(
    DOTTED,
    st.ip_addresses().map(str),
    st.text("0123456789abcdef:.%/", max_size=20),
    st.text(max_size=8),
)


@given(TEXT)
def test_an_address_is_read_as_ipaddress_reads_it(text: str) -> None:
    try:
        expected = octets_of(ipaddress.ip_address(text))
    except ValueError:
        expected = None
    try:
        found = from_text(text)
    except ValueError:
        found = None
    assert found == expected


@given(st.ip_addresses().map(str))
def test_the_usual_spelling_comes_back(text: str) -> None:
    assert from_text(to_text(from_text(text))) == from_text(text)
