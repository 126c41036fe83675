# SPDX-License-Identifier: Apache-2.0
"""Sockets, clocks and the event loop of a DFS; decides nothing."""
