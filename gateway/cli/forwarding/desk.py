"""What the commands about things set aside share: the store as a desk, and who sits at it.

Decided here: how a person is named who does not say a name, and how a command line is spelt that
somebody is told to type. Not decided here: what can be decided (service/decisions.py).
"""

from __future__ import annotations

import os
import pwd
import shlex
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import click

from gateway.config import Config
from gateway.service.asides import Desk
from gateway.service.decisions import (
    REASON_CHARS_MAX,
    WHO_CHARS_MAX,
    Action,
    check_text,
)
from gateway.settings import shown_url
from gateway.wiring_forwarding import desk_over
from gateway.wiring_store import open_store

_OPTIONS: Final = {"config_file": "--config", "redis_url": "--redis", "data_dir": "--data-dir"}


@asynccontextmanager
async def open_desk(config: Config, *, only_look: bool = False) -> AsyncIterator[Desk]:
    """Open the store and make the desk; a store weaker than `ack` will do to only look."""
    async with open_store(config, allow_weaker=only_look) as store:
        yield desk_over(config, store)


def signed(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options --reason and --by."""
    by = click.option("--by", metavar="NAME", help="Who decides; default who is logged in.")
    reason = click.option(
        "--reason", default="", metavar="TEXT", help="Why; needed, and kept in the record."
    )
    return reason(by(command))


def check_signature(by: str | None, reason: str) -> tuple[str, str]:
    """Give who decides and why, as they are recorded. Raises InvalidInput."""
    who = operator() if by is None else check_text(by, "--by", WHO_CHARS_MAX)
    return who, check_text(reason, "--reason", REASON_CHARS_MAX)


def operator() -> str:
    """Name who runs this command, user@host, as the operating system knows it."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run under a number that has no name
        user = f"uid{os.getuid()}"
    return f"{user}@{socket.gethostname()}"[:WHO_CHARS_MAX]


def command_line(ctx: click.Context, action: Action, address: str) -> str:
    """Spell the command that carries out a decision, over the store that was looked at.

    The reason is left empty, and refused so: nobody decides by pasting alone.
    """
    given = []
    for parameter, option in _OPTIONS.items():
        value = ctx.params.get(parameter)
        # A URL that holds a secret is not repeated.
        if value is not None and shown_url(str(value)) == str(value):
            given += [option, str(value)]
    verb, *flags = action.split(" ")
    words = ["cmapi-gateway", "forward", verb, address, *flags, *given]
    return f"{shlex.join(words)} --reason ''"
