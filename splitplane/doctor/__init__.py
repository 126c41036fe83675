# SPDX-License-Identifier: Apache-2.0
"""Whether a host can do what its configuration says: what `splitplane doctor` looks at."""
