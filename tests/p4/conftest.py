# SPDX-License-Identifier: Apache-2.0
"""gRPC has threads and descriptors per process, which end when the last object that uses them has
been collected.  Some that nothing else uses keep them: they would be taken for a test's leak."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

import grpc
import grpc.aio

grpc.aio.init_grpc_aio()
UNUSED: Final = grpc.server(ThreadPoolExecutor(1))
