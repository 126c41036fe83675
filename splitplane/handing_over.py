# SPDX-License-Identifier: Apache-2.0
"""Wait until an ordered switch-over is carried out, or is not: for the command and the drill."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from admin.answers import ControlSegmentStatus
from admin.errors import CommandError

CLAIM_S: Final = 5.0
"""How long a standby may take that claims at once; also of a CS of an earlier release, which does
not say whom it hands over to."""
_LOOK_S: Final = 0.01


def wait_until_handed_over(status: Callable[[], ControlSegmentStatus], chosen: int) -> None:
    """Return when the CS that was ordered to hand over, or to claim, has done so.

    *status*: asks it; *chosen*: the CS that it said would be active.  CommandError: the role has
    not changed, and why that may be.
    """
    begun = time.monotonic()
    while not _is_done(status(), chosen, patient=time.monotonic() < begun + CLAIM_S):
        time.sleep(_LOOK_S)


def _is_done(status: ControlSegmentStatus, chosen: int, *, patient: bool) -> bool:
    is_active = status.group_role == "active"
    if is_active == (status.segment_id == chosen):
        return True
    if not patient and status.successor != chosen:
        raise CommandError(
            f"cs-{chosen} has not taken over; it may lack flows: see `splitplane show status`"
            " there. The active CS goes on as before"
        )
    return False
