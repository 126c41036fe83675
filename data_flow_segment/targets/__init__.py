# SPDX-License-Identifier: Apache-2.0
"""What moves packets: the contract, and what fulfils it, one package each."""
