# SPDX-License-Identifier: Apache-2.0
"""What the endpoints of all kinds of resource have in common."""
