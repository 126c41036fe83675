# SPDX-License-Identifier: Apache-2.0
"""The probes of health monitors: they ask nodes, and decide nothing."""
