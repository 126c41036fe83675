# SPDX-License-Identifier: Apache-2.0
"""Plug-ins: what a client says in a protocol that no DFS reads, one file per protocol.

A file has a class with what `plugin.Plugin` says, and a line in `registry.PLUGINS`; nothing else
knows a protocol by name.  Pure (docs/design/0012).
"""
