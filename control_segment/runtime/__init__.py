# SPDX-License-Identifier: Apache-2.0
"""The CS's sockets, tasks and clock; nothing here decides about flows.

Nothing is imported here: processes beside the CS, as the one that probes, need little of it.
"""
