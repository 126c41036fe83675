# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import pytest

from admin.receive_buffer import enlarge, size_of

RMEM_MAX = int(Path("/proc/sys/net/core/rmem_max").read_text())
LOG = logging.getLogger("test")


def test_what_was_got_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        assert enlarge(udp, 65536, LOG) == size_of(udp) == 65536
    (record,) = caplog.records
    assert (record.levelno, record.message) == (
        logging.INFO,
        "SSMB: the receive buffer has 65,536 octets",
    )


class NoPrivilege(socket.socket):
    """A real socket of a process without CAP_NET_ADMIN, whoever runs the test."""

    def setsockopt(self, level: int, option: int, value: int) -> None:  # type: ignore[override]
        """Refuse the option that needs the capability, as the kernel does."""
        if option == 33:
            raise PermissionError(1, os.strerror(1))
        super().setsockopt(level, option, value)


def test_less_than_was_asked_for_is_a_warning_with_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wanted = 4 * RMEM_MAX
    with NoPrivilege(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        got = enlarge(udp, wanted, LOG)
        assert got == size_of(udp) == RMEM_MAX
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"has {RMEM_MAX:,} octets, {wanted:,} were asked for" in record.message
    assert f"set net.core.rmem_max to {wanted}" in record.message
