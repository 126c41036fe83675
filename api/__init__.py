# SPDX-License-Identifier: Apache-2.0
"""The operator's side: desired state in a database, live state from the segments, a web page
(docs/design/0011).
"""
