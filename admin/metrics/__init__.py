# SPDX-License-Identifier: Apache-2.0
"""Metrics for Prometheus: tables of what there is, made from what segments answer."""
