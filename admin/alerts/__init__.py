# SPDX-License-Identifier: Apache-2.0
"""Alerts: what happens, told to people by e-mail or to a program by a web hook."""
