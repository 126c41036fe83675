# SPDX-License-Identifier: Apache-2.0
"""An agent that is killed just before it changes anything outside of itself for the nth time:

    python dying_agent.py NTH PIN_PATH ARTIFACT FLOW_CAPACITY

Without dying (NTH too large, or 0) it prints how many changes of each kind it made, in order.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from data_flow_segment.targets.bpf import BpfOptions, BpfTarget
from data_flow_segment.targets.bpf.libbpf import library

_CALLS: Final = (
    "bpf_object__load", "bpf_map_update_batch", "bpf_map_update_elem", "bpf_map_delete_elem",
    "bpf_map_create", "bpf_link_create", "bpf_link_update", "bpf_obj_pin",
    "bpf_prog_test_run_opts",
)  # fmt: skip
_PATHS: Final = ("rename", "unlink", "rmdir")


class Changes:
    """Counts them, and ends the process before the nth."""

    def __init__(self, deadly: int) -> None:
        self.made: list[str] = []
        self._deadly = deadly
        for name in _CALLS:
            setattr(library(), name, self._counting(name, getattr(library(), name)))
        for name in _PATHS:
            setattr(Path, name, self._counting(name, getattr(Path, name)))

    def _counting(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.made.append(name)
            if len(self.made) == self._deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **named)

        return counted


def main(deadly: str, pin_path: str, artifact: str, capacity: str) -> None:
    changes = Changes(int(deadly))
    options = BpfOptions(
        ("ext0",), ("int0",), Path(pin_path), "tc", int(capacity), artifact=Path(artifact)
    )
    target = BpfTarget.open(options)
    made = list(changes.made)
    target.close(detach=False)
    print(*made)


if __name__ == "__main__":
    main(*sys.argv[1:])
