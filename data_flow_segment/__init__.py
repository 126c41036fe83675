# SPDX-License-Identifier: Apache-2.0
"""The Data Flow Segment: an agent that speaks SSMB and CSMB, and targets that move packets.

Everything here is pure, except for `runtime`, `targets.bpf` and the driver of `targets.p4runtime`.
"""
