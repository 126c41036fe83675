# SPDX-License-Identifier: Apache-2.0
"""The configuration files that operators copy: they load, and they show every field there is."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from control_segment.config import ControlSegmentConfig
from data_flow_segment.config.p4runtime import P4RuntimeSection, SwitchInterface
from data_flow_segment.config.segment import DataFlowSegmentConfig
from splitplane.config import load
from splitplane.setup.plan import Wanted, plan
from splitplane.setup.writing import USER

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
FILES: list[tuple[str, type[BaseModel]]] = [
    ("cs.yaml", ControlSegmentConfig),
    ("dfs.yaml", DataFlowSegmentConfig),
]
SWITCH = EXAMPLES / "hardware-switch" / "dfs.yaml"


def fields(schema: object) -> Iterator[str]:
    """All names of fields in a model's JSON schema, at any depth."""
    if isinstance(schema, dict):
        properties = schema.get("properties", {})
        yield from properties
        for below in [*properties.values(), *schema.get("$defs", {}).values()]:
            yield from fields(below)


@pytest.mark.parametrize(("name", "model"), FILES)
def test_an_example_loads(name: str, model: type[BaseModel]) -> None:
    load(EXAMPLES / "two-machines" / name, model)


@pytest.mark.parametrize(("name", "model"), FILES)
def test_an_example_shows_every_field(name: str, model: type[BaseModel]) -> None:
    text = (EXAMPLES / "two-machines" / name).read_text()
    if model is DataFlowSegmentConfig:
        text += SWITCH.read_text()  # no file may have the fields of two targets
    missing = {field for field in fields(model.model_json_schema()) if f"{field}:" not in text}
    assert not missing


def test_the_example_of_a_switch_loads_and_its_defaults_are_those_it_says() -> None:
    section = load(SWITCH, DataFlowSegmentConfig).p4runtime
    assert section is not None
    default = {"device_id": 1, "election_id": 1}
    assert section.model_dump(include=set(default)) == default
    fields = {**P4RuntimeSection.model_fields, **SwitchInterface.model_fields}
    assert {name: fields[name].default for name in default} == default
    assert fields["replace_program"].default is False
    assert fields["mtu"].default == 1500


@pytest.mark.parametrize(("name", "model"), FILES)
def test_what_is_commented_out_is_the_default(name: str, model: type[BaseModel]) -> None:
    """Fields of the file's first level; each says what would be without it."""
    for line in (EXAMPLES / "two-machines" / name).read_text().splitlines():
        field, colon, value = line.removeprefix("# ").partition(": ")
        if line.startswith("# ") and colon and field in model.model_fields:
            default = model.model_fields[field].default
            assert str(default).lower() == value, field


def test_the_two_machines_find_each_other() -> None:
    cs = load(EXAMPLES / "two-machines" / "cs.yaml", ControlSegmentConfig)
    dfs = load(EXAMPLES / "two-machines" / "dfs.yaml", DataFlowSegmentConfig)
    assert [(place.address, place.port) for place in cs.data_flow_segments] == [
        (dfs.csmb.address, dfs.csmb.port)
    ]


@pytest.mark.parametrize("kind", ["cs", "dfs"])
def test_the_units_start_the_commands_and_make_the_folder_of_the_socket(kind: str) -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(EXAMPLES / "systemd" / f"splitplane-{kind}@.service")
    service = unit["Service"]
    assert service["ExecStart"].endswith(f"bin/splitplane {kind} /etc/splitplane/%i.yaml")
    # what passes by itself is tried again for ever: the others are for a person (admin/errors.py)
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"].split() == ["2", "3", "4"]
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    folder = "/run/" + service["RuntimeDirectory"].replace("%i", kind)
    name, model = FILES[("cs", "dfs").index(kind)]
    config = load(EXAMPLES / "two-machines" / name, model)
    assert Path(str(config.model_dump()["admin_socket"])).parent == Path(folder)
    folder = "/var/lib/" + service["StateDirectory"].replace("%i", kind)
    assert Path(str(config.model_dump()["state_file"])).parent == Path(folder)


UNITS = ("splitplane-api.service", "splitplane-cs@.service", "splitplane-dfs@.service")
EXPOSURE_MAX = {"splitplane-dfs@.service": 35}  # of 100; others 20. It needs four capabilities


def test_the_apis_unit_keeps_its_database_and_socket_where_init_says() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(EXAMPLES / "systemd" / "splitplane-api.service")
    service = unit["Service"]
    assert service["ExecStart"].endswith("bin/splitplane api /etc/splitplane/api.yaml")
    assert service["RestartPreventExitStatus"].split() == ["2", "3", "4"]
    made = plan(
        Wanted(
            folder=Path("/etc/splitplane"), state=Path("/var/lib/splitplane"),
            address="127.0.0.1", target="memory",
        )
    )  # fmt: skip
    assert made.database.parent == Path("/var/lib") / service["StateDirectory"]
    assert service["User"] == USER


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_a_unit_and_finds_it_little_exposed(name: str, tmp_path: Path) -> None:
    text = (EXAMPLES / "systemd" / name).read_text()
    unit = tmp_path / name.replace("@", "@one")
    unit.write_text(text.replace("/opt/splitplane/.venv/bin/splitplane", "/bin/true"))
    most = EXPOSURE_MAX.get(name, 20)
    for words in (
        ["verify", "--man=no", str(unit)],
        ["security", "--offline=true", f"--threshold={most}", str(unit)],
    ):
        done = subprocess.run(
            ["systemd-analyze", *words], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert unit.name not in done.stderr  # what it ignores, as an option that is misspelt
