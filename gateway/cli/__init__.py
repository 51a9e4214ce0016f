"""The command line: `cmapi-gateway`, one door per command.

Decided here: which commands there are and where each lives. A command is imported when it is
called, so that `--help` is quick. Not decided here: what all of them share (options.py).
Source: INTERFACE 1.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, Final

import click

from gateway.cli.options import run

# name: (module:command, what it does); a further command is one more line
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "serve": ("gateway.cli.serve:serve", "Run the gateway."),
    "forward": ("gateway.cli.forward:forward", "Run only the forwarder; what was set aside."),
    "demo": ("gateway.cli.demo:demo", "Show the main job on this machine, with nothing set up."),
    "apply": ("gateway.cli.apply:apply", "Validate a provisioning file and write it."),
    "import": ("gateway.cli.importing:import_", "Make a provisioning file of a server's features."),
    "keys": ("gateway.cli.keys:keys", "Make, add, list and revoke client keys."),
    "users": ("gateway.cli.users:users", "Add, list and remove administrators."),
    "token": ("gateway.cli.token:token", "Mint a capability token."),
    "request": ("gateway.cli.request:request", "Send one access request."),
    "explain": ("gateway.cli.explain:explain", "Tell why a request was granted or not."),
    "report": ("gateway.cli.report:report", "Tell what was used, denied and held."),
    "conformance": ("gateway.cli.conformance:conformance", "Score a CMAPI server, any one."),
    "verify": ("gateway.cli.verify:verify", "Check that no unit is lost or counted twice."),
    "backup": ("gateway.cli.backup:backup", "Write all that the store knows to one file."),
    "restore": (
        "gateway.cli.restore:restore",
        "Put a backup into a store, unless that knows more.",
    ),
    "doctor": ("gateway.cli.doctor:doctor", "Check the store, clocks, keys and upstreams."),
    "schema": ("gateway.cli.schema:schema", "Write OpenAPI and JSON Schemas."),
    "bench": ("gateway.cli.bench:bench", "Measure this machine, side by side."),
}


class Doors(click.Group):
    """A group that imports its commands one by one, and ends as `run` says."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(_imported(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101  the table is ours
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in COMMANDS.items()])

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        inner = partial(super().main, *args, standalone_mode=False, **extra)
        return sys.exit(run(inner)) if standalone_mode else inner()


@click.group(cls=Doors, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A metered-licence gateway: exact counters at once, usage forwarded once."""


def _imported(module: str) -> ModuleType:
    """Import without a search for garbage meanwhile, nor at the end in what was imported.

    There is none, and looking for it was a third of a short command's time.
    """
    gc.disable()
    try:
        return import_module(module)
    finally:
        gc.freeze()
        gc.enable()
