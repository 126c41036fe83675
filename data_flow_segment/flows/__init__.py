# SPDX-License-Identifier: Apache-2.0
"""A flow's life at the agent: new, answered, refused, ended; reported to the CS and swept."""
