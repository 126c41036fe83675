# SPDX-License-Identifier: Apache-2.0
"""The Data Flow Segment: an agent that speaks SSMB and CSMB, and targets that move packets.

Everything here is pure but for `runtime` and `targets.bpf`.
"""
