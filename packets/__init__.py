# SPDX-License-Identifier: Apache-2.0
"""Octets that other programs sent: frames, their headers, checksums and rewriting.

Pure, and about nothing of splitplane's own: no flow, no virtual server, no message of SSMB or CSMB.
"""
