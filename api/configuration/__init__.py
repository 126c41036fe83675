# SPDX-License-Identifier: Apache-2.0
"""/api/v1/configuration: a group's whole document, JSON or YAML."""
