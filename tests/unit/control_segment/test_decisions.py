# SPDX-License-Identifier: Apache-2.0
"""QUERY to REPLY, by the rules of wire protocol 6.7 and 10."""

from __future__ import annotations

from ssmb.addresses import to_text
from support.dfs_double import Rig


def test_a_query_is_answered_with_a_node_of_the_pool() -> None:
    rig = Rig()
    reply = rig.dfs.query(rig)
    assert reply is not None
    assert reply.error_code == 0
    assert to_text(reply.node_ipaddr) == "10.1.1.2"
    assert reply.node_port == 8080
