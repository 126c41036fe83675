# SPDX-License-Identifier: Apache-2.0
"""What moves packets: the contract, and the targets that fulfil it, one package each."""
