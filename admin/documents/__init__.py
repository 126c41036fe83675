# SPDX-License-Identifier: Apache-2.0
"""Configurations as text or data: YAML, and what is wrong with one, in plain words."""
