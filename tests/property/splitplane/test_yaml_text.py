# SPDX-License-Identifier: Apache-2.0
"""What PyYAML writes is read again as it was, by libyaml's events and by Python's."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from admin.documents import yaml_text
from admin.documents.places import Place, Problem, Unreadable
from admin.documents.yaml_text import read_yaml

# PyYAML itself does not read again what it writes for some line breaks of Unicode
_TEXT = st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp"))
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False)
    | st.text(_TEXT, max_size=20)
    | st.sampled_from(["<<", "no", "010", "1:30", "~", "=", "2026-01-01", "1e3", ".inf", "*a", "-"])
)
_DATA = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(_TEXT, max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


@pytest.fixture(params=["libyaml", "python"], scope="module")
def parser(request: pytest.FixtureRequest) -> Any:
    patch = pytest.MonkeyPatch()
    if request.param == "python":
        patch.setattr(yaml_text, "_Parser", yaml.SafeLoader)
    yield request.param
    patch.undo()


@given(data=_DATA, flow=st.sampled_from([None, True, False]))
def test_what_is_written_is_read_again(parser: str, data: object, flow: bool | None) -> None:
    text = yaml.safe_dump(data, default_flow_style=flow, allow_unicode=False)
    document = read_yaml(text, with_places=True)
    assert document.data == data
    assert document.problems == []
    assert document.place is not None
    _every_value_has_a_line(document.data, document.place, text.count("\n") + 1)


def _every_value_has_a_line(data: object, place: Place, lines: int) -> None:
    assert 1 <= place.line <= lines
    steps: Any = ()
    if isinstance(data, dict):
        steps = data.items()
    elif isinstance(data, list):
        steps = enumerate(data)
    for step, value in steps:
        found = place.child(step)
        assert found is not None
        assert 1 <= found[0] <= lines
        _every_value_has_a_line(value, found[1], lines)


@given(text=st.text(alphabet="ab:-?[]{},&*!|>'\"%#\n <", max_size=60))
def test_any_text_is_read_or_refused(parser: str, text: str) -> None:
    lines = range(1, text.count("\n") + 3)
    try:
        problems = read_yaml(text, with_places=True).problems
    except Unreadable as error:
        problems = [Problem(error.line, (), str(error))]
    assert all(problem.line in lines for problem in problems)
