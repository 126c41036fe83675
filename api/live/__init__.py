# SPDX-License-Identifier: Apache-2.0
"""What the segments do now: asked of them, and kept nowhere."""
