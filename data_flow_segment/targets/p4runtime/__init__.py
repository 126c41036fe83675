# SPDX-License-Identifier: Apache-2.0
"""The target on a switch that is spoken to by P4Runtime."""

import os

# gRPC's core writes of connections' ends to standard error; their reasons are told by us.  It reads
# this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions
from data_flow_segment.targets.p4runtime.target import P4RuntimeTarget

__all__ = ["P4RuntimeOptions", "P4RuntimeTarget"]
