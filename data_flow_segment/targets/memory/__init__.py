# SPDX-License-Identifier: Apache-2.0
"""A target that moves packets in this process: for tests, for ``--dry-run``, and as the second,
independent reading of what the BPF program does.  Pure: time comes through a clock given to it.
"""

from data_flow_segment.targets.memory.options import MemoryOptions
from data_flow_segment.targets.memory.target import MemoryTarget

__all__ = ["MemoryOptions", "MemoryTarget"]
