# SPDX-License-Identifier: Apache-2.0
"""The `splitplane` command: composes and runs the segments, the lab, the live view."""

from typing import Final

__version__: Final = "0.1.0"
