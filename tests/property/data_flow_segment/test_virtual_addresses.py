# SPDX-License-Identifier: Apache-2.0
"""Addresses of virtual servers counted one change at a time are those that a look at all gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from data_flow_segment.targets.contract import VirtualServerEntry, VirtualServerKey
from data_flow_segment.targets.virtual_addresses import VirtualAddresses

_KEYS = st.builds(
    VirtualServerKey,
    st.sampled_from([None, b"a" * 16, b"b" * 16]),
    st.sampled_from([None, 80, 443]),
    st.just(6),
)
_CHANGES = st.lists(st.tuples(_KEYS, st.sampled_from([None, True, False])), max_size=40)


@given(_CHANGES)
def test_every_change_leaves_what_a_look_at_all_servers_gives(
    changes: list[tuple[VirtualServerKey, bool | None]],
) -> None:
    addresses = VirtualAddresses()
    servers: dict[VirtualServerKey, VirtualServerEntry] = {}
    known: dict[bytes, bool] = {}
    for key, answer in changes:
        before = servers.pop(key, None)
        after = None if answer is None else VirtualServerEntry(key, 1, answer)
        if after is not None:
            servers[key] = after
        changed = addresses.replace(before, after)

        wanted: dict[bytes, bool] = {}
        for entry in servers.values():
            if entry.key.virt_ipaddr is not None:
                answered = wanted.get(entry.key.virt_ipaddr, False)
                wanted[entry.key.virt_ipaddr] = answered or entry.answer_arp
        for address in (b"a" * 16, b"b" * 16):
            assert (address in addresses) == (address in wanted)
            assert addresses.answers_for(address) == wanted.get(address, False)
        assert (changed is None) == (wanted == known)
        known = wanted
