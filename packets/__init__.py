# SPDX-License-Identifier: Apache-2.0
"""Octets that other programs sent: frames, their headers, checksums and rewriting; the beginning
of what a client says on a connection.

Pure, and independent of splitplane: no flow, no virtual server, no message of SSMB or CSMB.
"""
