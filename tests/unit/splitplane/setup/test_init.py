# SPDX-License-Identifier: Apache-2.0
"""`splitplane init` for real, in a folder of its own."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from admin.errors import CommandError
from admin.link.token import read_token
from api.access.keeper import Keeper
from api.access.roles import Role
from api.composition import opened, realtime
from api.config import ApiConfig
from api.serve import tls_context
from control_segment.config import ControlSegmentConfig
from data_flow_segment.config.segment import DataFlowSegmentConfig
from splitplane.cli import cli
from splitplane.config import load
from splitplane.keys import read_key
from splitplane.setup.plan import Wanted, plan
from splitplane.setup.writing import write

LOCAL = ["--target", "memory"]


def init(folder: Path, *options: str) -> Result:
    command = ["init", "--folder", str(folder / "etc"), "--state", str(folder / "var"), *options]
    return CliRunner().invoke(cli, command)


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_what_it_writes_is_taken_by_the_commands_that_read_it(tmp_path: Path) -> None:
    done = init(tmp_path, *LOCAL)
    assert done.exit_code == 0, done.output
    etc = tmp_path / "etc"
    api = load(etc / "api.yaml", ApiConfig)
    cs = load(etc / "cs.yaml", ControlSegmentConfig)
    dfs = load(etc / "dfs.yaml", DataFlowSegmentConfig)
    assert read_key(etc / str(cs.key_file)) == read_key(etc / str(dfs.key_file))
    assert len(read_key(etc / "cs.key")) == 32
    with opened(api.database, etc) as database:
        keeper = Keeper(database, realtime)
        for segment in (cs, dfs):
            assert segment.api is not None
            caller = keeper.by_token(read_token(etc / segment.api.token_file))
            assert caller is not None
            assert caller.role is Role.SEGMENT
        admin = keeper.by_token(done.stdout.strip())
        assert admin is not None
        assert admin.role is Role.ADMIN
    for path in etc.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((tmp_path / "var" / "api").stat().st_mode) == 0o700
    assert f"splitplane sign-in --config {etc}/api.yaml" in done.stderr
    secrets = [read_token(etc / "cs.token"), (etc / "cs.key").read_text().strip()]
    assert not any(secret in done.output for secret in secrets)


def test_for_several_machines_it_makes_a_certificate_and_says_what_belongs_where(
    tmp_path: Path,
) -> None:
    done = init(
        tmp_path, "--address", "10.0.0.9", "--cs", "10.0.0.2", "--cs", "10.0.0.3",
        "--dfs", "10.0.0.1", "--external", "eth0", "--internal", "eth1",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    etc = tmp_path / "etc"
    listen = load(etc / "api.yaml", ApiConfig).listen
    assert listen.tls is not None
    context = tls_context(listen.tls, etc)
    context.load_verify_locations(etc / "dfs-api.crt")
    (certificate,) = context.get_ca_certs()
    assert ("IP Address", "10.0.0.9") in certificate["subjectAltName"]
    assert f"on 10.0.0.3, in {etc}:" in done.stderr
    assert "systemctl enable --now splitplane-cs@cs-2" in done.stderr
    assert read_token(etc / "cs-1.token") != read_token(etc / "cs-2.token")


def test_it_overwrites_nothing(tmp_path: Path) -> None:
    assert init(tmp_path, *LOCAL).exit_code == 0
    before = everything(tmp_path)
    done = init(tmp_path, *LOCAL)
    assert done.exit_code == 1
    assert f"{tmp_path}/etc/cs.yaml is there already" in done.stderr
    assert "nothing was written" in done.stderr
    assert everything(tmp_path) == before
    (tmp_path / "etc" / "cs.yaml").unlink()
    assert init(tmp_path, *LOCAL).exit_code == 1  # also if only some are there
    assert not (tmp_path / "etc" / "cs.yaml").exists()


def test_a_dry_run_shows_everything_but_secrets_and_writes_nothing(tmp_path: Path) -> None:
    done = init(tmp_path, *LOCAL, "--dry-run")
    assert done.exit_code == 0
    assert "segment_id: 256\ntarget: memory\n" in done.stdout
    assert f"--- {tmp_path}/etc/cs.key (mode 0600)\n(key, made when written)" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(api_file: Path, segments: tuple[str, ...]) -> tuple[dict[str, str], str]:
        assert api_file.exists()
        (tmp_path / "var" / "api" / "api.db").touch()
        raise CommandError("the database cannot be written")

    made = plan(
        Wanted(
            folder=tmp_path / "etc", state=tmp_path / "var", address="127.0.0.1", target="memory"
        )
    )
    with pytest.raises(CommandError, match="cannot be written"):
        write(made, "127.0.0.1", fail)
    assert list(tmp_path.iterdir()) == []


def test_wrong_use_says_which_interfaces_there_are(tmp_path: Path) -> None:
    done = init(tmp_path)
    assert done.exit_code == 2
    assert "give --external and --internal" in done.stderr
    assert "this machine has: " in done.stderr
    done = init(tmp_path, *LOCAL, "--address", "10.0.0.256")
    assert done.exit_code == 2
    assert "'10.0.0.256' is not an IPv4 or IPv6 address" in done.stderr
