# SPDX-License-Identifier: Apache-2.0
"""The segments: their links, what they say, what they are sent."""
