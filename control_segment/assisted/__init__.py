# SPDX-License-Identifier: Apache-2.0
"""Flows of which the CS sees packets: copies of a raw virtual server's, and all of an assisted
one's (wire protocol 8.4 and 15.4; docs/design/0012-content.md).  Pure."""
