# SPDX-License-Identifier: Apache-2.0
"""`splitplane doctor` on this host, with configurations of its own."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from splitplane.cli import cli
from splitplane.doctor.gathering import gather
from support.deployments import initialised
from support.ports import free_port


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What `splitplane init` wrote, with ports that nobody else has."""
    return initialised(tmp_path)[0]


def doctor(*arguments: object) -> tuple[Result, list[dict[str, Any]]]:
    done = CliRunner().invoke(cli, ["doctor", "--json", *map(str, arguments)])
    return done, json.loads(done.stdout)["findings"]


def errors(findings: list[dict[str, Any]]) -> list[str]:
    return [each["what"] for each in findings if each["level"] == "error"]


def test_what_init_wrote_is_fit_before_anything_runs(folder: Path) -> None:
    done, findings = doctor("--folder", folder)
    assert errors(findings) == []
    assert done.exit_code == 0
    said = {(each["subject"], each["what"].partition(" ")[0]) for each in findings}
    assert {("api.yaml", "listen:"), ("cs.yaml", "key"), ("dfs.yaml", "csmb:")} <= said
    refused = [each["what"] for each in findings if each["what"].endswith("Connection refused")]
    assert len(refused) == 3  # the API, twice, and the DFS
    done = CliRunner().invoke(cli, ["doctor", "--folder", str(folder), "--quiet"])
    assert "cs.yaml: key" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith("errors: 0, ")


def test_a_key_that_others_may_read_and_a_port_in_use_are_errors(folder: Path) -> None:
    (folder / "cs.key").chmod(0o644)
    (folder / "dfs.token").unlink()
    (api,) = [each for each in gather(folder).configured if each.kind == "api"]
    with socket.socket() as other:
        other.bind((api.ports[0].address, api.ports[0].port))
        other.listen()
        done, findings = doctor("--folder", folder)
    assert done.exit_code == 1
    key, token = folder / "cs.key", folder / "dfs.token"
    assert errors(findings) == [
        f"listen: TCP 127.0.0.1 port {api.ports[0].port}: EADDRINUSE",
        f"{key}: other users may read or write this key; run chmod 600 {key}",
        f"{token}: there is no such token file; create one with: splitplane token create",
    ]


def test_files_are_given_by_name_and_one_that_does_not_load_says_why(folder: Path) -> None:
    path = folder / "cs.yaml"
    path.write_text(path.read_text().replace("segment_id: 1\n", "segment_id: 1000\n"))
    done, findings = doctor(path)
    assert done.exit_code == 1
    assert any(f"{path}:" in what and "segment_id" in what for what in errors(findings))
    assert {each["subject"] for each in findings} & {"dfs.yaml", "api.yaml"} == set()


def test_an_empty_folder_is_told_how_to_begin(tmp_path: Path) -> None:
    done, findings = doctor("--folder", tmp_path)
    assert done.exit_code == 1
    assert "splitplane init" in findings[0]["do"]


def test_a_database_that_cannot_be_had_is_told(folder: Path) -> None:
    path, port = folder / "api.yaml", free_port()
    text = path.read_text()
    at = next(line for line in text.splitlines() if line.startswith("database:"))
    path.write_text(text.replace(at, f"database: sqlite:///{folder}/no/such/api.db"))
    _, findings = doctor(path)
    assert errors(findings) == [
        f"database: there is no folder {folder}/no/such; create it, for the user of the API alone"
    ]
    path.write_text(text.replace(at, f"database: postgresql://me@127.0.0.1:{port}/lb"))
    done, findings = doctor(path)
    assert done.exit_code == 0
    said = [each["what"] for each in findings if each["what"].startswith("database")]
    assert said == [f"database 127.0.0.1 port {port}: Connection refused"]
