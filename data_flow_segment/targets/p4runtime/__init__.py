# SPDX-License-Identifier: Apache-2.0
"""The target on a switch that is controlled through P4Runtime.

Nothing is imported here: the configuration needs a few numbers of it and no gRPC.
"""

import os

# gRPC's core logs the ends of connections to standard error; the agent logs their reasons itself.
# gRPC reads this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
