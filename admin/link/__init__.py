# SPDX-License-Identifier: Apache-2.0
"""A segment's link to the API (docs/design/0011): one WebSocket, which the segment opens."""
