# SPDX-License-Identifier: Apache-2.0
"""Every message at its longest is one datagram and one frame."""

from __future__ import annotations

import pytest

from ssmb import codec
from ssmb import messages as m
from ssmb.constants import (
    APP_DATA_MAX,
    BRIDGE_DATA_MAX,
    GRANT_DATA_MAX,
    PARKED_FRAME_MAX,
    SEAL_SIZE,
    SSMB_DGRAM_MAX,
    SSMB_MSG_MAX,
    TAKEN_FLOWS_MAX,
    Flag,
)
from ssmb.errors import EncodeError
from ssmb.grants import FLOW_SIZE
from ssmb.seal import Sealer

FRAME = 1500  # an Ethernet frame's payload
IPV6_AND_UDP = 40 + 8
LONGEST: list[tuple[m.Message, str, int]] = [
    (m.AppQuery(), "app_data", APP_DATA_MAX),
    (m.AppNotify(), "app_data", APP_DATA_MAX),
    (m.Bridge(), "frag_data", BRIDGE_DATA_MAX),
    (m.Grant(), "grant_data", GRANT_DATA_MAX),
    (m.Taken(), "taken_data", TAKEN_FLOWS_MAX * FLOW_SIZE),
    (m.Query(flags=Flag.PARKED), "frame", PARKED_FRAME_MAX),
    (m.Reply(flags=Flag.PARKED), "frame", PARKED_FRAME_MAX),
    (m.AppQuery(flags=Flag.PARKED), "frame", PARKED_FRAME_MAX),
]
NAMES = [f"{type(message).__name__}-{field}" for message, field, _ in LONGEST]
BOTH = pytest.mark.parametrize("version", [1, 2])


@BOTH
@pytest.mark.parametrize(("message", "field", "octets"), LONGEST, ids=NAMES)
def test_the_longest_of_each_type_is_one_datagram(
    message: m.Message, field: str, octets: int, version: int
) -> None:
    longest = message._replace(**{field: bytes(octets)})  # type: ignore[arg-type]
    encoded = codec.encode(longest, version)
    assert len(encoded) <= SSMB_MSG_MAX
    sealed = Sealer(bytes(16)).seal(encoded)
    assert len(sealed) <= SSMB_DGRAM_MAX
    assert len(sealed) + IPV6_AND_UDP <= FRAME
    decoded = codec.decode(encoded, version)
    assert getattr(decoded, field) == bytes(octets)


@BOTH
@pytest.mark.parametrize(("message", "field", "octets"), LONGEST, ids=NAMES)
def test_one_octet_more_is_refused(
    message: m.Message, field: str, octets: int, version: int
) -> None:
    longer = message._replace(**{field: bytes(octets + 1)})  # type: ignore[arg-type]
    with pytest.raises(EncodeError):
        codec.encode(longer, version)


@BOTH
def test_a_full_batch_and_its_seal_are_one_datagram(version: int) -> None:
    sealer = Sealer(bytes(16))
    assert len(sealer.seal(b"")) == SEAL_SIZE
    for cls in (m.Delete, m.Stats, m.Reap, m.Timeout, m.FlowState):
        octets = codec.size_of(codec.TYPE_OF[cls], version)
        first, *_ = codec.encode_batch([cls()] * 60, version)
        assert SSMB_DGRAM_MAX - octets < len(sealer.seal(first)) <= SSMB_DGRAM_MAX
