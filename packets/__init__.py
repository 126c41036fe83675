# SPDX-License-Identifier: Apache-2.0
"""Octets that other programs sent: frames, their headers, checksums and rewriting.

Pure, and independent of splitplane: no flow, no virtual server, no message of SSMB or CSMB.
"""
