# SPDX-License-Identifier: Apache-2.0
"""For benchmarks that run a CS's modules in their own process: the compiled ones, as `splitplane cs` does.

To be imported before any of them.
"""

from splitplane import compiled

READ_FROM = compiled.use()
