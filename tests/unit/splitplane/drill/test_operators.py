# SPDX-License-Identifier: Apache-2.0
"""An operator's own file and commands: what it may say, and what a failing command does."""

from __future__ import annotations

from pathlib import Path

import pytest

from admin.errors import CommandError, ConfigError
from splitplane.config import load
from splitplane.drill.operators import OperatorsDeployment, OperatorsFile, ScenarioSection, steps

EXAMPLE = Path(__file__).parents[4] / "docs/examples/drill/drill.yaml"
SMALL = "load: {addresses: [203.0.113.10]}\nscenarios: {kill: {fail: 'true'}}\n"


def test_the_example_loads_and_shows_every_field() -> None:
    file = load(EXAMPLE, OperatorsFile)
    assert set(file.scenarios) == {"kill", "cable", "switchover"}
    text = EXAMPLE.read_text()
    schema = OperatorsFile.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        for field in section["properties"]:
            assert f"{field}:" in text


def test_a_small_file_has_sensible_defaults(tmp_path: Path) -> None:
    path = tmp_path / "drill.yaml"
    path.write_text(SMALL)
    deployment = OperatorsDeployment(load(path, OperatorsFile))
    assert deployment.inside(["load"]) == [["load"]]
    assert deployment.sockets() == {}
    assert deployment.active() is None
    plan = deployment.plan(seconds=9, failure_s=3)
    assert (plan.http_port, plan.stream_port, plan.udp_port) == (80, 0, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scenarios: {kill: {fail: 'true'}}\n", "drill.yaml:1: load: "),
        (SMALL.replace("fail", "fial"), "drill.yaml:2: scenarios.kill.f"),
        (SMALL.replace("'true'}", "'true', active: nobody}"), "scenarios.kill.active"),
        (SMALL.replace("[203.0.113.10]", "[]"), "load.addresses"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_place(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "drill.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(path, OperatorsFile)
    assert said in str(error.value)


def test_commands_run_at_the_failure_and_at_the_repair(tmp_path: Path) -> None:
    made = tmp_path / "made"
    section = ScenarioSection(fail=f"echo failed >{made}", repair=f"echo repaired >>{made}")
    first, second = steps(section, 7.0)
    assert (first.after_s, second.after_s) == (0.0, 7.0)
    first.do()
    second.do()
    assert made.read_text() == "failed\nrepaired\n"
    assert len(steps(ScenarioSection(fail="true"), 7.0)) == 1


def test_a_command_that_fails_is_an_error_with_its_words() -> None:
    (step,) = steps(ScenarioSection(fail="echo no such host >&2; exit 3"), 1.0)
    with pytest.raises(CommandError, match="it ended with 3: no such host"):
        step.do()
