# SPDX-License-Identifier: Apache-2.0
"""WCAG 2.2's contrast, computed for the colours that meet: 4.5 for text (1.4.3), 3 for controls and
for what a picture is made of (1.4.11)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

STYLE: Final = Path(__file__).parents[2] / "api/web/style"
_TWO: Final = re.compile(r"--([\w-]+): light-dark\(#([0-9a-f]{6}), #([0-9a-f]{6})\);")
COLOURS: Final = {
    name: (light, dark) for name, light, dark in _TWO.findall((STYLE / "palette.css").read_text())
}

_GROUNDS: Final = ("background", "surface", "raised")
_TONES: Final = ("good", "warning", "bad")
TEXT: Final = {
    *((text, ground) for text in ("text", "muted", "accent") for ground in _GROUNDS),
    *((tone, f"{tone}-faint") for tone in _TONES),
    *((text, f"{tone}-faint") for text in ("text", "muted") for tone in _TONES),
    *((tone, ground) for tone in _TONES for ground in _GROUNDS),
    *(("accent", f"{tone}-faint") for tone in _TONES),
    ("accent-text", "accent"),
    ("accent", "accent-faint"),
}  # fmt: skip
LINES: Final = {
    *(("control", ground) for ground in ("background", "surface")),
    *((f"series-{number}", "surface") for number in range(1, 5)),
    *((tone, "raised") for tone in _TONES),
}


def luminance(colour: str) -> float:
    """Relative, of "rrggbb"."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """1 to 21."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("pairs", "least"), [(TEXT, 4.5), (LINES, 3.0)], ids=["text", "lines"])
def test_colours_that_meet_can_be_told_apart(
    scheme: str, pairs: set[tuple[str, str]], least: float
) -> None:
    index = ("light", "dark").index(scheme)
    low = {
        f"{one} on {other}": round(contrast(COLOURS[one][index], COLOURS[other][index]), 2)
        for one, other in pairs
        if contrast(COLOURS[one][index], COLOURS[other][index]) < least
    }
    assert low == {}


def test_every_colour_is_in_the_palette() -> None:
    for path in STYLE.glob("*.css"):
        text = path.read_text()
        used = set(re.findall(r"var\(--([\w-]+)\)", text))
        assert used <= set(COLOURS), path.name
        if path.name != "palette.css":
            assert not re.search(r"#[0-9a-fA-F]{3,8}\b", text), path.name
