# SPDX-License-Identifier: Apache-2.0
"""The admin socket of a running segment: server, client, answers, errors."""
