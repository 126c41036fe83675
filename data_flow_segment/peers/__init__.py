# SPDX-License-Identifier: Apache-2.0
"""The CSs that this DFS serves: their connections, groups, datagrams and virtual servers."""
