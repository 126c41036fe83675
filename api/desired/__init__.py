# SPDX-License-Identifier: Apache-2.0
"""The desired state: resources, generations, and every rule of changing them."""
