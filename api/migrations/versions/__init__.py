# SPDX-License-Identifier: Apache-2.0
"""One module for each step of the tables, with its way back."""
