# SPDX-License-Identifier: Apache-2.0
"""Open p4runtime-shell at a running laboratory's switch, or at ADDRESS: `make p4-shell`.

The shell only looks.  It asks with election id 0, the lowest there is, so that the agent stays
primary (or becomes it, when it comes), and it brings no program: what it knows of tables and
actions is what the switch has from the agent.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import yaml

from admin.client import SOCKET_FOLDER
from splitplane.lab.switch import answers, socket_path

ENVIRONMENT = Path(__file__).parents[1] / ".venv-p4shell"
# the shell wants a jedi that knows no Python after 3.9; without it TAB completes all the same
IPYTHON_CONFIG = "c.Completer.use_jedi = False\n"
EXAMPLES = """\
In the shell, for example:
  tables                                            # their names; the last part of a name is enough
  tables["flows"]                                   # its key and its actions
  table_entry["flows"].read(lambda entry: print(entry))
  counter_entry["outcomes"].read(lambda place: print(place.index, place.packet_count))
  exit
"""


def running_labs() -> dict[str, Path]:
    """The configurations of DFSs whose laboratories have a switch that answers, by name."""
    return {
        folder.name.removeprefix("lab-"): folder / "dfs.yaml"
        for folder in sorted(SOCKET_FOLDER.glob("lab-*"))
        if socket_path(folder).exists() and answers(folder)
    }


def main() -> None:
    """Become the shell."""
    parser = argparse.ArgumentParser(description="Open p4runtime-shell on a laboratory's switch.")
    parser.add_argument("--address", help="another switch: HOST:PORT or unix:/path")
    parser.add_argument("--device-id", type=int, default=1, help="the device id of that switch")
    arguments = parser.parse_args()
    address, device_id = arguments.address, arguments.device_id
    if not address:
        labs = running_labs()
        if len(labs) != 1:
            found = (
                f"several laboratories with a P4 switch run ({', '.join(labs)}):"
                if labs
                else "no laboratory with a P4 switch runs: start one with `make run-p4`, or"
            )
            sys.exit(f"p4-shell: {found} give ADDRESS=HOST:PORT (or unix:/path) and DEVICE_ID=N")
        (config,) = labs.values()
        section = yaml.safe_load(config.read_text())["p4runtime"]
        address, device_id = section["address"], section["device_id"]
    print(EXAMPLES, end="", flush=True)
    options = ["--grpc-addr", address, "--device-id", str(device_id), "--election-id", "0,0"]
    profile = ENVIRONMENT / "ipython/profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "ipython_config.py").write_text(IPYTHON_CONFIG)
    os.environ["IPYTHONDIR"] = str(profile.parent)  # its history stays there too
    python = str(ENVIRONMENT / "bin/python")
    os.execv(python, [python, "-m", "p4runtime_sh", *options])


if __name__ == "__main__":
    main()
