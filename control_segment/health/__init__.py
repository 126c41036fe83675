# SPDX-License-Identifier: Apache-2.0
"""Health monitors: what is observed of nodes, and what follows from it (docs/design/0011)."""
