# SPDX-License-Identifier: Apache-2.0
"""What a client says first, and what follows from it for the choice of its node
(docs/design/0012-content.md, wire protocol 15).  Pure: it knows neither nodes nor messages."""
