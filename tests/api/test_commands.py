# SPDX-License-Identifier: Apache-2.0
"""The commands that change the desired state, with a real API process at a Unix socket."""

from __future__ import annotations

import http.server
import itertools
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from click.testing import CliRunner, Result

from admin.errors import CommandError
from splitplane.api_client import ApiClient
from splitplane.cli import cli
from splitplane.differences import lines_of
from splitplane.lab.processes import wait_for

CS_YAML: Final = """\
segment_id: 1
ssmb: {address: 192.0.2.1, port: 61019}
key_file: cs.key
data_flow_segments:
  - {address: 192.0.2.2, port: 61019}
pools:
  - name: web
    nodes:
      - {name: web-1, address: 10.1.0.2, port: 8080}
      - {name: web-2, address: 10.1.0.3, port: 8080}
virtual_servers:
  - {name: www, address: 203.0.113.10, port: 80, protocol: tcp, pool: web}
"""
WRONG: Final = CS_YAML.replace("10.1.0.3, port: 8080", "10.1.0.3, port: 70000")
Run = Callable[..., Result]
_groups = itertools.count(100)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a running API: its api.yaml, its socket, an operator's and a viewer's token."""
    folder = tmp_path_factory.mktemp("api")
    config = folder / "api.yaml"
    config.write_text("listen: {address: null, socket: api.sock}\ndatabase: sqlite:///api.db\n")
    for role in ("operator", "viewer"):
        made = CliRunner().invoke(
            cli, ["token", "create", role, "--role", role, "--config", str(config)]
        )
        assert made.exit_code == 0, made.output
        (folder / f"{role}.token").write_text(made.stdout)
        (folder / f"{role}.token").chmod(0o600)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "splitplane", "api", str(config)], stderr=subprocess.DEVNULL
    )
    try:
        wait_for("the API's socket", (folder / "api.sock").exists)
        yield folder
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def run(api: Path) -> Run:
    """The command, as an operator."""

    def invoke(*arguments: object, role: str = "operator") -> Result:
        environment = {
            "SPLITPLANE_API": f"unix:{api}/api.sock",
            "SPLITPLANE_TOKEN_FILE": f"{api}/{role}.token",
        }
        return CliRunner().invoke(
            cli, [str(each) for each in arguments], prog_name="splitplane", env=environment
        )

    return invoke


@pytest.fixture
def group() -> int:
    """One that no other test uses."""
    return next(_groups)


def well(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


def newest(run: Run) -> int:
    printed = well(run("generations", "--limit", 1)).stdout.split()
    return int(printed[0]) if printed else 0


def exported(run: Run, group: int) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(well(run("export", "--group", group)).stdout)
    return found


def prefixed(text: str, group: int) -> str:
    """With names and an address that no other group has: both are unique over all groups."""
    text = text.replace("web", f"web{group}").replace("www", f"www{group}")
    return text.replace("203.0.113.10", f"203.0.113.{group}")


@pytest.fixture
def cs_yaml(tmp_path: Path, group: int) -> Path:
    path = tmp_path / "cs.yaml"
    path.write_text(f"group_id: {group}\n{prefixed(CS_YAML, group)}")
    return path


def test_a_cs_yaml_becomes_the_desired_state_and_comes_back(
    run: Run, cs_yaml: Path, group: int, tmp_path: Path
) -> None:
    said = well(run("import", cs_yaml))
    assert f"+ virtual server www{group} (group {group})" in said.stdout
    assert f"    nodes[web{group}-2]: {{address: 10.1.0.3, port: 8080}}" in said.stdout
    given = yaml.safe_load(cs_yaml.read_text())
    back = exported(run, group)
    assert back["pools"] == given["pools"]
    assert back["virtual_servers"] == given["virtual_servers"]
    assert "segment_id" not in back
    path = tmp_path / "export.yaml"
    path.write_text(yaml.safe_dump(back))
    before = newest(run)
    assert "nothing is different" in well(run("apply", path, "--group", group)).stderr
    assert newest(run) == before


def change(before: object, after: object, kind: str = "pool", group_id: int = 1) -> dict[str, Any]:
    name = str(group_id) if kind == "settings" else "web"
    return {"kind": kind, "name": name, "group_id": group_id, "before": before, "after": after}


NODES: Final = [{"name": "a", "address": "10.1.0.2"}, {"name": "b", "address": "10.1.0.3"}]


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        (change({"name": "web"}, None), ["- pool web"]),
        (
            change({"name": "web"}, {"name": "web"}),
            ["~ pool web", "    has another place in its list"],
        ),
        (
            change(None, {"name": "web", "nodes": [], "monitors": ["m"], "reset_when_down": True}),
            ["+ pool web", "    nodes: []", "    monitors: [m]", "    reset_when_down: true"],
        ),
        (
            change({"nodes": NODES}, {"nodes": NODES[::-1]}),
            ["~ pool web", "    nodes: in another order: b, a"],
        ),
        (
            change({"persistence": {"timeout_s": 5}}, {"persistence": None}, "virtual_server", 2),
            ["~ virtual server web (group 2)", "    persistence: {timeout_s: 5} -> null"],
        ),
        (
            change({"ssmb": {"a": 1, "b": 2}}, {"ssmb": {"a": 1, "b": 3}}, "settings", 7),
            ["~ settings of group 7", "    ssmb.b: 2 -> 3"],
        ),
        (
            change({"nodes": NODES}, {}),
            ["~ pool web", "    nodes[a]: removed", "    nodes[b]: removed"],
        ),
    ],
)  # fmt: skip
def test_a_difference_is_lines_for_people(found: dict[str, Any], lines: list[str]) -> None:
    assert list(lines_of([found])) == lines


@pytest.mark.parametrize("command", ["import", "apply"])
def test_what_is_wrong_in_a_file_is_told_by_its_line_and_changes_nothing(
    run: Run, cs_yaml: Path, group: int, command: str
) -> None:
    text = f"group_id: {group}\n{prefixed(WRONG, group)}"
    if command == "apply":
        text = text[text.index("pools:") :]
    cs_yaml.write_text(text)
    line = text[: text.index("70000")].count("\n") + 1
    result = run(command, cs_yaml, "--group", group)
    assert result.exit_code == 3
    assert result.stderr == (
        f"{cs_yaml}:{line}: pools[0].nodes[1].port: 70000 is too large; give at most 65535\n"
    )
    assert exported(run, group).get("pools", []) == []


def test_a_dry_run_prints_the_difference_and_changes_nothing(
    run: Run, cs_yaml: Path, group: int
) -> None:
    well(run("import", cs_yaml))
    before = newest(run)
    cs_yaml.write_text(
        cs_yaml.read_text()
        .replace(f"web{group}-2, address: 10.1.0.3", f"web{group}-3, address: 10.1.0.4")
        .replace("port: 8080}", "port: 8080, weight: 3}", 1)
    )
    said = well(run("import", cs_yaml, "--dry-run"))
    assert said.stdout.splitlines() == [
        f"~ pool web{group} (group {group})",
        f"    nodes[web{group}-1].weight: (not given) -> 3",
        f"    nodes[web{group}-2]: removed",
        f"    nodes[web{group}-3]: added: {{address: 10.1.0.4, port: 8080}}",
    ]
    assert "1 resource would change; nothing has changed" in said.stderr
    assert newest(run) == before
    assert "generation" in well(run("import", cs_yaml, "--comment", "a third one")).stderr
    assert newest(run) == before + 1
    assert "a third one" in run("generations").stdout.splitlines()[0]


def test_the_difference_of_generations_is_printed_and_rolled_back(
    run: Run, cs_yaml: Path, group: int
) -> None:
    well(run("import", cs_yaml))
    first = newest(run)
    well(run("node", f"web{group}", f"web{group}-1", "--state", "draining"))
    change = f"nodes[web{group}-1].state"
    assert f"{change}: (not given) -> draining" in well(run("diff", first, first + 1)).stdout
    assert f"{change}: draining -> (not given)" in well(run("diff", first + 1, first)).stdout
    assert run("diff", first, first).stdout == ""
    assert f"+ pool web{group}" in well(run("diff", 0, first)).stdout
    well(run("roll-back", first, "--dry-run"))
    assert exported(run, group)["pools"][0]["nodes"][0]["state"] == "draining"
    said = well(run("roll-back", first, "--comment", "too early"))
    assert f"{change}: draining -> (not given)" in said.stdout
    assert exported(run, group)["pools"] == yaml.safe_load(cs_yaml.read_text())["pools"]
    assert newest(run) == first + 2
    refused = run("roll-back", 99_999)
    assert refused.exit_code == 1
    assert "99999" in refused.stderr


def test_a_virtual_server_and_its_pool_are_added_as_one_generation(run: Run, group: int) -> None:
    well(run("add", "pool", f"before{group}", "--node", "10.2.0.1:1", "--group", group))
    before = newest(run)
    name, address = f"shop{group}", f"2001:db8::{group}"
    nodes = ("--node", "[2001:db8:1::2]:8080", "--node", "[2001:db8:1::3]:8081")
    where = ("--address", address, "--port", 443)
    said = well(
        run("add", "virtual-server", name, *where, *nodes, "--method", "maglev", "--group", group)
    )
    assert f"+ pool {name}" in said.stdout
    assert f"+ virtual server {name}" in said.stdout
    assert newest(run) == before + 1
    found = exported(run, group)
    assert found["pools"][1] == {
        "name": name,
        "method": "maglev",
        "nodes": [
            {"name": f"{name}-1", "address": "2001:db8:1::2", "port": 8080},
            {"name": f"{name}-2", "address": "2001:db8:1::3", "port": 8081},
        ],
    }
    again = run("add", "virtual-server", name, *where, "--pool", name, "--group", group)
    assert again.exit_code == 1
    assert f"there is a virtual server {name!r} already" in again.stderr
    wrong = run("add", "virtual-server", "x", "--address", "nowhere", "--port", 70000,
                "--pool", name, "--group", group)  # fmt: skip
    assert wrong.exit_code == 1
    assert [line.split(":")[1].strip() for line in wrong.stderr.splitlines()] == ["address", "port"]
    assert newest(run) == before + 1


def test_nodes_are_added_changed_and_removed(run: Run, cs_yaml: Path, group: int) -> None:
    well(run("import", cs_yaml))
    pool = f"web{group}"
    well(run("add", "node", pool, "10.1.0.4:8080", "--name", "late", "--weight", 2))
    well(run("node", pool, "late", "--weight", 0, "--state", "down"))
    nodes = exported(run, group)["pools"][0]["nodes"]
    assert nodes[2] == {
        "name": "late", "address": "10.1.0.4", "port": 8080, "weight": 0, "state": "down",
    }  # fmt: skip
    before = newest(run)
    well(run("node", pool, "late", "--weight", 0))  # as it is
    assert newest(run) == before
    said = well(run("remove", "node", pool, "late", "--dry-run"))
    assert "nodes[late]: removed" in said.stdout
    well(run("remove", "node", pool, "late"))
    assert len(exported(run, group)["pools"][0]["nodes"]) == 2
    refused = run("remove", "pool", pool)
    assert refused.exit_code == 1
    assert f"www{group}" in refused.stderr, "who stands in the way"
    well(run("remove", "virtual-server", f"www{group}"))
    well(run("remove", "pool", pool))
    assert exported(run, group).get("pools", []) == []
    missing = run("node", pool, "late", "--weight", 1)
    assert missing.exit_code == 1
    assert pool in missing.stderr


def test_who_may_only_read_is_refused(run: Run, cs_yaml: Path) -> None:
    before = newest(run)
    for refused in (
        run("import", cs_yaml, role="viewer"),
        run("add", "node", "web", "10.1.0.4:8080", role="viewer"),
        run("roll-back", 0, role="viewer"),
    ):
        assert refused.exit_code == 1
        assert "operator" in refused.stderr
    assert well(run("export", role="viewer")).exit_code == 0
    assert newest(run) == before


def test_what_is_in_the_way_of_asking_is_said_in_one_line(api: Path, tmp_path: Path) -> None:
    def says(*options: object) -> tuple[int, str]:
        result = CliRunner().invoke(cli, ["generations", *map(str, options)])
        assert result.stderr.count("\n") == 1, result.stderr
        return result.exit_code, result.stderr

    code, said = says("--api", f"unix:{tmp_path}/none.sock")
    assert (code, "no API answers there" in said) == (1, True)
    code, said = says("--api", f"unix:{api}/api.sock")
    assert (code, "SPLITPLANE_TOKEN_FILE" in said) == (1, True)
    for url in ("nonsense", "ftp://192.0.2.1", "http://:1", "http://192.0.2.1:x", "unix:relative"):
        code, said = says("--api", url)
        assert (code, "is not the URL of an API" in said) == (3, True), said
    token = ("--token-file", api / "operator.token")
    code, said = says("--api", "http://192.0.2.1:8404", *token)
    assert (code, "plain text" in said) == (3, True)
    code, said = says("--api", "https://localhost:1", "--ca-file", tmp_path / "none.crt")
    assert (code, "none.crt" in said) == (3, True)
    code, said = says("--token-file", tmp_path / "none.token")
    assert (code, "none.token" in said) == (3, True)


def test_what_is_no_api_is_told_apart(tmp_path: Path) -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    try:
        with pytest.raises(CommandError, match="no API of splitplane: 501"):
            ApiClient(f"http://127.0.0.1:{server.server_port}").request("GET", "/generations")
    finally:
        thread.join()
        server.server_close()


def test_an_import_needs_no_running_api(tmp_path: Path, cs_yaml: Path, group: int) -> None:
    config = tmp_path / "api.yaml"
    config.write_text("database: sqlite:///own.db\n")

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(cli, [str(each) for each in arguments])

    assert f"+ pool web{group}" in well(invoke("import", cs_yaml, "--config", config)).stdout
    again = well(invoke("import", cs_yaml, "--config", config))
    assert "nothing is different from generation 1" in again.stderr
    cs_yaml.write_text(cs_yaml.read_text().replace("10.1.0.3, port: 8080", "10.1.0.3, port: 0x"))
    wrong = invoke("import", cs_yaml, "--config", config)
    assert wrong.exit_code == 3
    assert f"{cs_yaml}:11: pools[0].nodes[1].port" in wrong.stderr


def test_the_playbook_run_twice_makes_no_second_generation(run: Run, api: Path) -> None:
    """What docs/examples/ansible sends; `changed` there is what is asserted here."""
    (play,) = yaml.safe_load(Path("docs/examples/ansible/splitplane.yml").read_text())
    ask, put = (task["ansible.builtin.uri"] for task in play["tasks"])
    assert (ask["url"], put["url"], put["method"]) == (
        "{{ api }}/generations?limit=1", "{{ api }}/{{ item.path }}?comment=ansible", "PUT",
    )  # fmt: skip
    client = ApiClient(f"unix:{api}/api.sock", (api / "operator.token").read_text().strip())

    def play_it() -> list[bool]:
        before = newest(run)
        answers = [
            client.request("PUT", f"/{each['path']}", each["body"], query={"comment": "ansible"})
            for each in play["vars"]["resources"]
        ]
        assert {answer.status for answer in answers} <= set(put["status_code"])
        return [answer.data["generation"] > before for answer in answers]

    assert play_it() == [True] * 3
    made = newest(run)
    assert play_it() == [False] * 3
    assert newest(run) == made
    well(run("node", "shop", "shop-1", "--state", "draining"))
    assert play_it() == [False, True, False]  # what somebody changed is as the playbook has it
    well(run("remove", "virtual-server", "shop"))
    well(run("remove", "pool", "shop"))


def test_the_commands_in_the_documentation_do_what_it_says(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Path("docs/api.md").read_text().partition("### By the command")[2]
    script = text.partition("```sh\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    before = newest(run)
    said = {}
    for line in script.splitlines():
        program, *words = shlex.split(line, comments=True) or [""]
        if program != "splitplane":
            continue
        words, into = (words[:-2], Path(words[-1])) if ">" in words else (words, None)
        # the page counts from an empty state
        words = [str(before + int(each)) if each in ("1", "2") else each for each in words]
        said[words[0]] = well(run(*words)).stdout
        if into is not None:
            into.write_text(said[words[0]])
    assert "+ virtual server shop" in said["add"]
    drained = "~ pool shop\n    nodes[shop-1].state: (not given) -> draining\n"
    assert said["diff"] == drained
    assert "draining -> (not given)" in said["roll-back"]
    assert said["apply"] == ""
    assert "name: shop" in said["export"]
    assert "virtual_servers: []" in well(run("export")).stdout
    well(run("remove", "pool", "shop"))
