# SPDX-License-Identifier: Apache-2.0
"""The web page: files that a browser is given as they are, and what gives them."""
