# SPDX-License-Identifier: Apache-2.0
"""`python -m splitplane`."""

from splitplane.cli import main

main()
