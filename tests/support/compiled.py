# SPDX-License-Identifier: Apache-2.0
"""The tests meet what users run: compiled modules, if `make compiled` has made them.

Imported by conftest.py before anything that may be compiled."""

from splitplane import compiled

IMPLEMENTATION = compiled.use()
