# SPDX-License-Identifier: Apache-2.0
"""The target on a switch that is spoken to by P4Runtime.

Nothing is imported here: the configuration needs a few numbers of it and no gRPC.
"""

import os

# gRPC's core writes of connections' ends to standard error; their reasons are told by us.  It reads
# this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
