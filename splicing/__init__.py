# SPDX-License-Identifier: Apache-2.0
"""The handshake proxy: a client's connection from its first data until it is spliced to a node's.

Pure; the agent and the Control Segment drive it (docs/design/0012).
"""
