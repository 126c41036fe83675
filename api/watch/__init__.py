# SPDX-License-Identifier: Apache-2.0
"""/api/v1/watch: what happens, as server-sent events."""
