# SPDX-License-Identifier: Apache-2.0
"""The CSs of a group: which one is active, and how the others stay equal to it (11)."""
