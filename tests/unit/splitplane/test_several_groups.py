# SPDX-License-Identifier: Apache-2.0
"""A command that changes CSs does not guess which group's are meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from admin.errors import CommandError
from splitplane.commands.sockets import Segment, refuse_several_groups

FIRST, SECOND, OTHER = (
    Segment("cs", number, Path(f"/run/splitplane/cs-{number}.sock")) for number in (1, 2, 3)
)


def test_css_of_one_group_are_changed_together() -> None:
    refuse_several_groups([(FIRST, 1), (SECOND, 1)])


def test_css_of_several_groups_are_named() -> None:
    with pytest.raises(CommandError) as refused:
        refuse_several_groups([(FIRST, 1), (SECOND, 1), (OTHER, 7)])
    assert "cs-3 of group 7 (/run/splitplane/cs-3.sock)" in str(refused.value)
    assert "--socket" in str(refused.value)
