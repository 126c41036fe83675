# SPDX-License-Identifier: Apache-2.0
"""The target in the kernel: an eBPF program, attached as tc or as XDP, and its maps."""

from data_flow_segment.targets.bpf.options import BpfOptions
from data_flow_segment.targets.bpf.target import BpfTarget

__all__ = ["BpfOptions", "BpfTarget"]
