# SPDX-License-Identifier: Apache-2.0
"""DFSs that hold each other's flows, so that a flow goes on at any of them (wire protocol 14).

docs/design/0010-dfs-pairs.md says why.
"""
