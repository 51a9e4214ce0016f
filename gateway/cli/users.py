"""`users`: the administrators of an instance, who log in at `/authorize`.

Decided here: that a password comes from standard input only (an argument would be seen in the list
of processes and stay in a shell's history), and that a user is never replaced in silence. Not
decided here: how a password is kept (core/passwords.py).
Source: INTERFACE 1, protocols/cmapi.md 7.1.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Final

import click
from msgspec.structs import replace

from gateway.cli.instances import edit_instance, resolved
from gateway.cli.names import NamedGroup
from gateway.cli.options import configured, example, read_password
from gateway.config import Config
from gateway.core.catalogue_edits import SHOWN_MAX, roles_of, with_user, without_user
from gateway.core.errors import InvalidInput
from gateway.core.model import Catalogue, Role, User, is_user_name
from gateway.core.passwords import PASSWORD_BYTES_MAX, SALT_BYTES, hash_password
from gateway.store.durable import answered
from gateway.store.rewriting import current_catalogue, rewrite
from gateway.wiring_store import open_store

ADDING: Final = "users add DEMO00000001 ann --roles ROLE_READ,ROLE_ADMIN --password-stdin < secret"


@click.group(cls=NamedGroup, epilog=example(ADDING, "users list", "users remove DEMO00000001 ann"))
def users() -> None:
    """Add, list and remove the administrators of instances."""


@users.command("add", epilog=example(ADDING))
@click.argument("instance")
@click.argument("name")
@click.option(
    "--roles",
    default=Role.READ.value,
    show_default=True,
    metavar="R,R",
    help=f"Of {', '.join(Role)}. None implies another.",
)
@click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input; required."
)
@click.option("--replace", "replacing", is_flag=True, help="Set password and roles anew.")
@configured()
def add(
    config: Config, instance: str, name: str, roles: str, password_stdin: bool, replacing: bool
) -> None:
    """Let an administrator log in to an instance (~ is the default one).

    NAME is 1 to 64 of A-Z a-z 0-9 . _ @ -, the password 8 to 1024 bytes of UTF-8; a newline at its
    end is not part of it. With --replace whoever was logged in under that name is logged out.
    """
    if not is_user_name(name):
        raise InvalidInput(f"NAME is {name[:SHOWN_MAX]!r}; expected 1 to 64 of A-Za-z0-9._@-")
    held = _roles(roles)
    if not password_stdin:
        raise InvalidInput("Give the password on standard input, with --password-stdin")
    password_hash = hash_password(
        read_password(PASSWORD_BYTES_MAX), secrets.token_bytes(SALT_BYTES)
    )
    asyncio.run(_add(config, instance, User(name, password_hash, held), replacing))
    click.echo(f"added {name}")


@users.command("list", epilog=example("users list", "users list DEMO00000001"))
@click.argument("instance", required=False)
@configured()
def list_users(config: Config, instance: str | None) -> None:
    """List the administrators of an instance, or of all: instance, name and roles."""
    for catalogue in asyncio.run(_catalogues(config, instance)):
        for user in catalogue.users:
            click.echo(f"{catalogue.id}  {user.name}  {','.join(user.roles)}")


@users.command("remove", epilog=example("users remove DEMO00000001 ann"))
@click.argument("instance")
@click.argument("name")
@configured()
def remove(config: Config, instance: str, name: str) -> None:
    """Let an administrator in no longer; whoever is logged in under that name is refused at
    once.
    """
    asyncio.run(edit_instance(config, instance, lambda catalogue: without_user(catalogue, name)))
    click.echo(f"removed {name}")


async def _add(config: Config, instance: str, user: User, replacing: bool) -> None:
    async with open_store(config) as store:
        named = await resolved(store.catalogues, instance)
        # The clock of this machine may be behind, and nobody looks at it as at a gateway's.
        store_s, _ = await answered(store.client.time())
        # A session is issued in whole seconds: none of this second is of this user.
        new = replace(user, since_s=max(int(time.time()), int(store_s)) + 1)
        await rewrite(
            store.catalogues, named, lambda catalogue: _with_user(catalogue, new, replacing)
        )


async def _catalogues(config: Config, instance: str | None) -> list[Catalogue]:
    async with open_store(config) as store:
        if instance is None:
            names = await store.catalogues.instances()
        else:
            names = [await resolved(store.catalogues, instance)]
        return [await current_catalogue(store.catalogues, name) for name in names]


def _roles(text: str) -> tuple[str, ...]:
    """Read a comma-separated list of roles, in one order. Raises InvalidInput."""
    try:
        return roles_of(text.split(","))
    except InvalidInput as error:
        raise InvalidInput(f"--roles: {error.message}") from None


def _with_user(catalogue: Catalogue, user: User, replacing: bool) -> Catalogue:
    if not replacing and any(each.name == user.name for each in catalogue.users):
        raise InvalidInput(
            f"Instance {catalogue.id} has a user {user.name} already; give --replace for another"
            " password or other roles"
        )
    return with_user(catalogue, user)
