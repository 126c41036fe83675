# SPDX-License-Identifier: Apache-2.0
"""The Control Segment (CS): decides what happens to each flow.

Everything here is pure (time, randomness and octets are arguments), except for `runtime`.
"""
