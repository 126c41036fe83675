# SPDX-License-Identifier: Apache-2.0
"""The laboratory: clients, a DFS, CSs and servers in network namespaces of this one machine."""

from splitplane.lab.lab import Lab

__all__ = ["Lab"]
