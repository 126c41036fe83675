# SPDX-License-Identifier: Apache-2.0
"""The desired state of a CS's group, from the API: applied, and kept on disk (docs/design/0011)."""
