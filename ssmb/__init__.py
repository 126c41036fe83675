# SPDX-License-Identifier: Apache-2.0
"""SSMB, the state sharing message bus: datagrams in, values out, and back.  Pure.

Reading order: constants, messages, codec, keys, seal, serials, batch.
"""
