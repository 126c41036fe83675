# SPDX-License-Identifier: Apache-2.0
"""Failover drills: a load that records everything, failures on purpose, and a report."""
