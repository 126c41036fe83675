# SPDX-License-Identifier: Apache-2.0
"""What a DFS's YAML file may say."""
