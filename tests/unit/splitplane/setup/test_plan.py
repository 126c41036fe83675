# SPDX-License-Identifier: Apache-2.0
"""What `splitplane init` would write: configurations that load, and find each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from api.config import ApiConfig
from control_segment.config import ControlSegmentConfig
from data_flow_segment.config.segment import DataFlowSegmentConfig
from splitplane.config import parse
from splitplane.setup.plan import CannotPlan, File, Plan, Wanted, plan

HERE: dict[str, Any] = {
    "folder": Path("/etc/splitplane"), "state": Path("/var/lib/splitplane"),
    "address": "127.0.0.1", "external": ("eth0",), "internal": ("eth1",),
}  # fmt: skip


def wanted(**changes: Any) -> Wanted:
    return Wanted(**{**HERE, **changes})


def named(made: Plan, name: str) -> File:
    (found,) = [file for file in made.files if file.path.name == name]
    return found


def cs_of(made: Plan, name: str = "cs.yaml") -> ControlSegmentConfig:
    return parse(named(made, name).text, name, ControlSegmentConfig)


def dfs_of(made: Plan, name: str = "dfs.yaml") -> DataFlowSegmentConfig:
    return parse(named(made, name).text, name, DataFlowSegmentConfig)


def test_on_one_machine_all_three_find_each_other_by_its_loopback() -> None:
    made = plan(wanted())
    assert [file.path.name for file in made.files] == [
        "api.yaml", "cs.key", "dfs.key", "cs.yaml", "cs.token", "dfs.yaml", "dfs.token",
    ]  # fmt: skip
    assert made.machines == ()
    cs, dfs = cs_of(made), dfs_of(made)
    api = parse(named(made, "api.yaml").text, "api.yaml", ApiConfig)
    assert api.listen.address == "127.0.0.1"
    assert api.database == "sqlite:////var/lib/splitplane/api/api.db"
    assert [(each.address, each.port) for each in cs.data_flow_segments] == [
        (dfs.csmb.address, dfs.csmb.port)
    ]
    assert cs.ssmb.port != dfs.ssmb.port  # of one address
    assert (dfs.external, dfs.internal) == (("eth0",), ("eth1",))
    for segment in (cs, dfs):
        assert segment.api is not None
        assert segment.api.url == made.url == f"http://127.0.0.1:{api.listen.port}"
        assert segment.metrics is not None
    metrics = [each.metrics.port for each in (api, cs, dfs) if each.metrics is not None]
    assert len(set(metrics)) == 3
    assert (cs.key_file, str(dfs.key_file)) == ("cs.key", "dfs.key")


@pytest.mark.parametrize(
    ("api", "css", "dfss"),
    [
        ("10.0.0.9", ("10.0.0.2", "10.0.0.3"), ("10.0.0.1",)),
        ("10.0.0.2", ("10.0.0.2", "10.0.0.3"), ("10.0.0.2", "10.0.0.4", "10.0.0.5")),
        ("fd00::9", ("fd00::2", "fd00::3"), ("fd00::1", "fd00::4")),
    ],
)
def test_on_several_machines_each_gets_its_own_and_the_api_has_tls(
    api: str, css: tuple[str, ...], dfss: tuple[str, ...]
) -> None:
    made = plan(wanted(address=api, css=css, dfss=dfss))
    all_css = [cs_of(made, f"cs-{number}.yaml") for number in range(1, len(css) + 1)]
    dfs_names = (
        [f"dfs-{256 + number}.yaml" for number in range(len(dfss))]
        if len(dfss) > 1
        else ["dfs.yaml"]
    )
    all_dfss = [dfs_of(made, name) for name in dfs_names]
    listening = [(dfs.csmb.address, dfs.csmb.port) for dfs in all_dfss]
    assert [cs.active for cs in all_css] == [True] + [False] * (len(css) - 1)
    for cs in all_css:
        assert [(each.address, each.port) for each in cs.data_flow_segments] == listening
        others = [(each.segment_id, each.ssmb.address, each.ssmb.port) for each in all_css]
        others.remove((cs.segment_id, cs.ssmb.address, cs.ssmb.port))
        assert [(it.segment_id, it.address, it.port) for it in cs.control_segments] == others
    for link in (*(cs.api for cs in all_css), *(dfs.api for dfs in all_dfss)):
        assert link is not None
        assert link.url.startswith("https://")
        assert link.ca_file in {file.path.name for file in made.files}
    listen = parse(named(made, "api.yaml").text, "api.yaml", ApiConfig).listen
    assert listen.tls is not None
    addresses = [machine.address for machine in made.machines]
    assert addresses == [each for each in dict.fromkeys((*css, *dfss)) if each != api]
    first = next(machine for machine in made.machines if machine.address == css[1])
    assert {path.name for path in first.files} == {
        "cs-2.yaml", "cs-2.token", "cs.key", "api.crt",
    }  # fmt: skip
    assert first.runs == ("splitplane-cs@cs-2",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"external": ()}, "give --external and --internal"),
        ({"css": ("10.0.0.2",)}, "127.0.0.1 is this machine's alone: with several machines give"),
        ({"address": "10.0.0.1", "dfss": ("127.0.0.1",)}, "127.0.0.1 is this machine's alone"),
        (
            {"address": "10.0.0.9", "css": ("10.0.0.2", "10.0.0.2")},
            "--cs 10.0.0.2 is given twice; each needs its own machine",
        ),
        (
            {"address": "10.0.0.9", "css": ("10.0.0.2",), "dfss": ("fd00::1",)},
            "give addresses of one family",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(CannotPlan, match=said):
        plan(wanted(**changes))


def test_to_try_it_out_no_interface_is_needed() -> None:
    dfs = dfs_of(plan(wanted(target="memory", external=(), internal=())))
    assert (dfs.target, dfs.external) == ("memory", ())
