# SPDX-License-Identifier: Apache-2.0
"""HTTP as the API speaks it: problem details, conditions, pages, bodies; it knows no resource."""
