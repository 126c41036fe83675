# SPDX-License-Identifier: Apache-2.0
"""CSMB, the configuration sharing message bus: a stream's octets in, events out.  Pure.

Reading order: constants, messages, codec, versions, keys; then settings, events, connection,
transitions, judgements, actions, authentication, stream.
"""
