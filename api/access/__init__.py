# SPDX-License-Identifier: Apache-2.0
"""Who may do what: tokens, roles, the page's sessions, the audit log."""
