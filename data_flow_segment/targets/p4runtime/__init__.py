# SPDX-License-Identifier: Apache-2.0
"""The target on a switch that is spoken to by P4Runtime."""
