# SPDX-License-Identifier: Apache-2.0
"""The CS's sockets, tasks and clock; nothing here decides about flows."""

from control_segment.runtime.datagrams import DatagramFilter
from control_segment.runtime.runtime import ControlSegmentRuntime

__all__ = ["ControlSegmentRuntime", "DatagramFilter"]
