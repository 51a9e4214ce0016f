"""`import`: make a provisioning file of what a licence server lists.

Decided here: where the file goes, and that it is read back as `apply` would before a byte of it is
written. Not decided here: which line an element becomes (core/importing.py), what a file may say
(core/provisioning.py). Source: INTERFACE 1 and 3.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import click

from gateway.cli.names import Named
from gateway.cli.options import configured, example, read_bounded
from gateway.config import Config
from gateway.core.errors import InvalidInput
from gateway.core.importing import import_features
from gateway.core.provisioning import read_provisioning

FILE_BYTES_MAX: Final = 2**24
LOCAL_INSTANCE: Final = "LOCAL0000001"  # a local server is asked as `~`, which has no id to keep


@click.command(
    "import",
    cls=Named,
    epilog=example(
        "import features.json --instance EXAMPLE00001 --timezone Europe/Paris --out example.toml",
        "apply example.toml --dry-run",
    ),
)
@click.argument("file", type=Path, metavar="FILE.json")
@click.option(
    "--instance",
    metavar="ID",
    help=f"Its id in the clients' base URL; without it {LOCAL_INSTANCE}, which ~ then means.",
)
@click.option(
    "--timezone",
    default="UTC",
    show_default=True,
    metavar="TZ",
    help="Where its days begin and end; cannot be changed once usage is counted.",
)
@click.option("--out", type=Path, metavar="FILE.toml", help="Where to write; default stdout.")
@configured()
def import_(
    config: Config, file: Path, instance: str | None, timezone: str, out: Path | None
) -> None:
    """Turn what GET /features of a licence server answered into a provisioning file.

    What cannot be carried over is named on stderr: look at each before `apply`. What the answer
    does not tell (reset periods, selectors, products) is yours to add.
    """
    local = instance in (None, "~")
    imported = import_features(
        read_bounded(file, "The answer", FILE_BYTES_MAX),
        instance=LOCAL_INSTANCE if instance is None or local else instance,
        timezone=timezone,
        default=local,
        now_ms=int(time.time() * 1000),
    )
    read_provisioning(imported.text, _no_key_file)
    if out is None:
        click.echo(imported.text, nl=False)
    else:
        _write_new(out, imported.text)
        click.echo(f"{out}: {imported.lines} lines of {imported.elements} elements")
    for note in imported.notes:
        click.echo(note, err=True)


def _no_key_file(name: str) -> bytes:
    raise FileNotFoundError(2, "No such file or directory", name)


def _write_new(path: Path, text: str) -> None:
    """Write a file that must not be there yet: it may have been edited since it was made."""
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise InvalidInput(f"{path} exists and is not overwritten; take another --out") from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}") from None
