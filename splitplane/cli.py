# SPDX-License-Identifier: Apache-2.0
"""The command: its groups, its exit codes, and nothing else; each subcommand is in `commands`."""

from __future__ import annotations

import sys
from importlib import import_module
from keyword import iskeyword
from typing import Any, Final

import click
from click.shell_completion import get_completion_class

from admin.errors import CommandError, ConfigError, from_os_error
from splitplane import __version__, logs

_COMMANDS: Final = {
    "cs": "cs",
    "dfs": "dfs",
    "init": "init",
    "doctor": "doctor",
    "api": "api",
    "token": "api",
    "sign-in": "api",
    "import": "desired",
    "export": "desired",
    "apply": "desired",
    "generations": "desired",
    "diff": "desired",
    "roll-back": "desired",
    "add": "resources",
    "remove": "resources",
    "node": "resources",
    "rule": "rule",
    "show": "show",
    "trace": "show",
    "reap": "show",
    "set-node": "show",
    "reload": "show",
    "test-alerts": "alerts",
    "switchover": "switchover",
    "lab": "lab",
    "run": "run",
    "drill": "drill",
}
"""Each subcommand's module in `commands`, loaded when the subcommand is used: all of them together
take a quarter of a second."""


class _Command(click.Group):
    """Turns CommandErrors into one line each and their exit code (docs/operations.md)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All subcommands, whether loaded or not."""
        return sorted({*super().list_commands(ctx), *_COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a subcommand, if there is one of this name."""
        if cmd_name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        module = import_module(f"splitplane.commands.{_COMMANDS[cmd_name]}")
        name = cmd_name.replace("-", "_")
        found: click.Command = getattr(module, f"{name}_" if iskeyword(name) else name)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # `| head`: click ends quietly
        except OSError as error:
            ended: CommandError = from_os_error(error, "the system refused")
        except CommandError as error:
            ended = error
        for line in str(ended).splitlines():
            # a configuration error starts with its file and line, so that editors can jump there
            prefix = "" if isinstance(ended, ConfigError) else "splitplane: "
            if not logs.tells_as_json(line):
                click.echo(prefix + line, err=True)
        raise click.exceptions.Exit(ended.exit_code)


@click.group(
    cls=_Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="splitplane")
def cli() -> None:
    """A server load balancer whose control plane and data plane are separate programs.

    Exit codes: 0 ended as requested, 1 failed while running, 2 wrong use, 3 a configuration or key
    file is wrong, 4 this machine cannot do it, 5 a port or address is in use or not here.
    """


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the shell completion script.

    Use it with: eval "$(splitplane completion bash)"
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "splitplane", "_SPLITPLANE_COMPLETE").source())


def main() -> None:
    """The entry point."""
    try:
        cli(prog_name="splitplane")
    except OSError as error:  # of what click prints itself: a full disk
        click.echo(f"splitplane: {from_os_error(error, 'the system refused')}", err=True)
        sys.exit(1)
