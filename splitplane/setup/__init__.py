# SPDX-License-Identifier: Apache-2.0
"""A first configuration: what `splitplane init` writes."""
