# SPDX-License-Identifier: Apache-2.0
"""The API's own metrics."""
