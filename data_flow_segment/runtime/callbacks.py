# SPDX-License-Identifier: Apache-2.0
"""What a method that the event loop calls may raise: nothing that the loop would have to drop."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from data_flow_segment.targets.contract import TargetError


class Runtime(Protocol):
    """What owns such methods."""

    def fail(self, error: TargetError) -> None:
        """End `run` with this."""

    def go_on_after(self, error: Exception) -> None:
        """Note a mistake of this program, and see to it that timers go on."""


_P = ParamSpec("_P")
_RuntimeT = TypeVar("_RuntimeT", bound=Runtime)


def callback(
    function: Callable[Concatenate[_RuntimeT, _P], None],
) -> Callable[Concatenate[_RuntimeT, _P], None]:
    """Let TargetError end `run`, and any other mistake end this call only."""

    @functools.wraps(function)
    def guarded(runtime: _RuntimeT, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            function(runtime, *args, **kwargs)
        except TargetError as error:
            runtime.fail(error)
        except Exception as error:
            runtime.go_on_after(error)

    return guarded
