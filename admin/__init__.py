# SPDX-License-Identifier: Apache-2.0
"""What a running segment's admin socket says, and to whom: server, client, answers, errors."""
