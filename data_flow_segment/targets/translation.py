# SPDX-License-Identifier: Apache-2.0
"""What a flow's entry means for its packets, per direction (wire protocol 9.4 and 9.6).

`inbound` and `returning` make the pair of translations from an entry; one is the inverse of the
other.  `packets.rewrite` carries them out.
"""

from __future__ import annotations

from typing import Final

from data_flow_segment.targets.contract import FlowEntry
from packets.rewrite import Translation
from ssmb.constants import Flag, ForwardMode

_TRANSLATE_ADDR: Final = int(Flag.TRANSLATE_ADDR)  # plain integers: this is on the way of each flow
_TRANSLATE_PORT: Final = int(Flag.TRANSLATE_PORT)
_TRANSLATE_SRC: Final = int(Flag.TRANSLATE_SRC)
_ADD_TCP_OFFSETS: Final = int(Flag.ADD_TCP_OFFSETS)
_NAT: Final = int(ForwardMode.NAT)


def inbound(entry: FlowEntry) -> Translation:
    """Client to node (for an outbound flow: from the side that opened it to the other side)."""
    flags = entry.flags if entry.forward_mode == _NAT else 0
    source = flags & _TRANSLATE_SRC
    return Translation(
        src=entry.snat_ipaddr if source else None,
        dst=entry.node_ipaddr if flags & _TRANSLATE_ADDR else None,
        src_port=entry.snat_port if source and entry.snat_port else None,
        dst_port=entry.node_port if flags & _TRANSLATE_PORT else None,
        has_offsets=bool(flags & _ADD_TCP_OFFSETS),
        seq=entry.seq_offset,
        ack=entry.ack_offset,
        ts_echo=-entry.ts_offset,
    )


def returning(entry: FlowEntry) -> Translation:
    """Node to client: the inverse."""
    there, signature = inbound(entry), entry.signature
    return Translation(
        src=None if there.dst is None else signature.dst_ipaddr,
        dst=None if there.src is None else signature.src_ipaddr,
        src_port=None if there.dst_port is None else signature.dst_port,
        dst_port=None if there.src_port is None else signature.src_port,
        has_offsets=there.has_offsets,
        seq=-entry.ack_offset,
        ack=-entry.seq_offset,
        ts_value=entry.ts_offset,
        window_shift=entry.wscale_shift,
    )
