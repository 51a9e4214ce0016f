"""`schema`: write the public contract, the OpenAPI document and the JSON Schemas.

Decided here: where the files go, and that a directory never shows half of one. Not decided here:
what they say (gateway/schemas.py). Source: INTERFACE 1, DESIGN 1.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import NamedTemporaryFile

import click

from gateway.cli.options import example
from gateway.core.errors import InvalidInput
from gateway.schemas import files
from gateway.service.server import distribution_version


@click.command(epilog=example("schema", "schema --out /tmp/schemas"))
@click.option(
    "--out",
    type=Path,
    default=Path("schemas"),
    show_default=True,
    metavar="DIR",
    help="Where to write; made when it is not there.",
)
def schema(out: Path) -> None:
    """Write OpenAPI and JSON Schemas: of every body, gateway.toml and provisioning files.

    Files of the same name are replaced, others are left alone.
    """
    made = files(distribution_version())
    try:
        out.mkdir(parents=True, exist_ok=True)
        changed = sum(_replaced(out / name, data) for name, data in made.items())
    except OSError as error:
        raise InvalidInput(f"{out} cannot be written: {error.strerror}") from None
    click.echo(f"{out}: {len(made)} files, {changed} changed")


def _replaced(path: Path, data: bytes) -> bool:
    """Write a file unless it says so already, whole or not at all; say whether it was written."""
    if path.is_file() and path.read_bytes() == data:
        return False
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
    return True
