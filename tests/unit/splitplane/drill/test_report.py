# SPDX-License-Identifier: Apache-2.0
"""The report is one page that needs nothing else, with plots of what was measured."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from splitplane.drill import plots
from splitplane.drill.recording import Progress
from splitplane.drill.report import write_html, write_json
from support.segments import drills

ROOT = Path(__file__).parents[4]


_WRITE = """
import sys
from pathlib import Path
from splitplane.drill.report import write_html
from support.segments import drills

for name, drill in {
    "passed": drills.drill(drills.round_()),
    "lossy": drills.drill(drills.lossy_round()),
    "undone": drills.drill(errors=("no such process",)),
    "skipped": drills.drill(skipped="there is no nft"),
}.items():
    folder = Path(sys.argv[1], name)
    folder.mkdir()
    write_html(drill, folder, plots=True)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of several drills, with its report, from another process: matplotlib keeps
    the files of fonts open."""
    folder = tmp_path_factory.mktemp("reports")
    paths = [str(ROOT), str(ROOT / "tests")]
    subprocess.run(
        [sys.executable, "-c", _WRITE, str(folder)],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    return folder


class Page(HTMLParser):
    """What a browser would load, and the text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data") and value:
                self.loads.append(value)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_loads_nothing_from_elsewhere(written: Path) -> None:
    page = Page(written / "passed/report.html")
    assert page.tags.count("svg") == 2
    assert [each for each in page.loads if not each.startswith(("#", "data:"))] == []
    assert "url(http" not in (written / "passed/report.html").read_text()


def test_the_page_says_what_was_lost_and_escapes_it(written: Path) -> None:
    page = Page(written / "lossy/report.html")
    assert "Failover drill: failed" in page.text
    assert "1 of 300 new connections broken: 1 x <refused> & gone" in page.text
    assert "refused" not in page.tags


def test_the_plots_name_their_axes_with_units_and_mark_what_was_done(written: Path) -> None:
    page = Page(written / "passed/report.html")
    for words in (
        "time from the failure (s)",
        "requests/s",
        "until connected (ms)",
        "kB/s",
        "kill -9 of the active CS",
        "obeys cs2",
        "longest gap between two successful new connections (ms)",
    ):
        assert words in page.text
    for name in ("kill-1.png", "summary.png"):
        head = (written / "passed" / name).read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", head[16:])[0] == 1100  # 10 inches at 110 dots per inch


def test_without_plots_nothing_is_drawn(tmp_path: Path) -> None:
    page = Page(write_html(drills.drill(drills.round_()), tmp_path, plots=False))
    assert "svg" not in page.tags
    assert list(tmp_path.glob("*.png")) == []
    assert "419" in page.text  # the gap


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("undone", "could not be carried out: no such process"),
        ("skipped", "there is no nft"),
    ],
)
def test_a_scenario_without_rounds_says_why(written: Path, name: str, said: str) -> None:
    assert said in Page(written / name / "report.html").text


def test_the_result_is_json(tmp_path: Path) -> None:
    path = write_json(drills.drill(drills.round_()), tmp_path)
    assert json.loads(path.read_text())["passed"] is True


def test_throughput_is_the_sum_over_processes() -> None:
    one = [Progress(at_s=10 + step / 2, octets=1_000 * step) for step in range(5)]
    two = [Progress(at_s=10 + step / 2, octets=500 * step) for step in range(5)]
    times, rates = plots.throughput([one, two], 10.0)
    assert times == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert rates == pytest.approx([3.0] * 4)
