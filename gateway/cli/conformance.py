"""`conformance`: how far a CMAPI server, any one, does what the protocol says.

Decided here: what the suite is told, where the score sheet goes, and the exit code. Not decided
here: what is checked and how it is asked (conformity/). Source: INTERFACE 1.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import click
from rich.console import Console
from rich.progress import Progress

from gateway.cli.conformity.sessions import Login
from gateway.cli.conformity.sheet import as_json, show, totals
from gateway.cli.conformity.site import Site
from gateway.cli.conformity.suite import checks_in_all, perform
from gateway.cli.conformity.wares import FEATURES_MAX
from gateway.cli.conformity.wire import Wire, new_client
from gateway.cli.names import Named
from gateway.cli.options import EXIT_FAILURE, configured, example, read_bounded, read_password
from gateway.cli.request import find_target
from gateway.config import Config
from gateway.core.errors import InvalidInput
from gateway.core.keys import KEY_BYTES_MAX, algorithm_of, load_private
from gateway.core.moments import iso
from gateway.core.passwords import PASSWORD_BYTES_MAX
from gateway.protocols.cmapi_request import normalise_preview

EXIT_TERMINATED: Final = 128 + signal.SIGTERM
STDOUT: Final = Path("-")


@click.command(
    cls=Named,
    epilog=example(
        "conformance http://127.0.0.1:7070 --instance DEMO00000001 --key private.pem",
        "conformance URL --instance I --key K --features sessions,editor --user ann"
        " --password-stdin --json sheet.json < secret",
    ),
)
@click.argument("url")
@click.option("--instance", required=True, help="Its id, or ~ for the default one.")
@click.option("--key", type=Path, required=True, metavar="FILE", help="RSA key, PKCS#8 PEM.")
@click.option("--kid", help="Name of the key; its thumbprint when left out.")
@click.option(
    "--features",
    default="",
    metavar="A,B",
    help=f"What may be taken from, at most {FEATURES_MAX}; best one of each kind, used by nobody"
    " else meanwhile.",
)
@click.option("--user", metavar="NAME", help="Administrator, for what only these can read.")
@click.option("--password-stdin", is_flag=True, help="Read that user's password from stdin.")
@click.option(
    "--json", "json_file", type=Path, metavar="FILE", help="Write the sheet there; - is stdout."
)
@configured()
@click.pass_context
def conformance(
    ctx: click.Context,
    config: Config,
    url: str,
    instance: str,
    key: Path,
    kid: str | None,
    features: str,
    user: str | None,
    password_stdin: bool,
    json_file: Path | None,
) -> None:
    """Check what the CMAPI server at URL does against the protocol, and print a score sheet.

    Any server: a check that differs is told with both sides and with how sure the public record
    is: [C] stated, [C-code] seen in clients, [I] inferred, [?] our choice where it is silent.
    What is [ours] alone is not offered elsewhere, which is no difference.

    Without --features nothing is taken: previews, refusals and reads only; the rest is not tried.
    With them, hosts named string:conformance-... take one to three units at a time, and all that
    is left of a feature only where that is under 50. What can be returned is, also after Ctrl-C.
    What is consumed is undone where the feature allows that, and otherwise stays consumed: at
    most 50 units of each feature.

    No key or policy, and no client of others, is touched. Exit code 0: nothing differs, and all
    of --features could be used.
    """
    target = find_target(url, instance)
    private = load_private(read_bounded(key, "The key", KEY_BYTES_MAX))
    if algorithm_of(private) != "RS256":
        raise InvalidInput("A capability token is signed with RS256; give an RSA private key")
    told = _read_features(features)
    login = _read_login(user, password_stdin)
    if json_file not in (None, STDOUT):
        _check_writable(json_file)
    when = iso(int(time.time() * 1000))
    with (
        new_client() as client,
        _terminable(),
        Progress(
            console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
        ) as progress,
    ):
        site = Site(Wire(client), target, instance, private, kid=kid, told=told)
        task = progress.add_task("", total=checks_in_all())

        def said(title: str) -> None:
            progress.update(task, advance=1, description=title)

        try:
            found = perform(site, login, said)
        finally:
            left = site.left_over()
            for sentence in (*map(site.safe, site.unfit.values()), *left):
                progress.console.print(sentence, markup=False, soft_wrap=True)
    sheet = as_json(found, url=url, instance=instance, when=when, left=left)
    if json_file == STDOUT:
        click.echo(sheet, nl=False)
    else:
        show(found)
        if json_file is not None:
            json_file.write_bytes(sheet)
    if totals(found)["differs"] or left or site.unfit:
        ctx.exit(EXIT_FAILURE)


def _read_features(text: str) -> tuple[str, ...]:
    """Read A,B: names, each once. Raises InvalidInput, BadRequest."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if len(names) > FEATURES_MAX:
        raise InvalidInput(f"--features are {len(names)}; give at most {FEATURES_MAX}")
    # As a server reads them: whatever is no name of a feature is a BadRequest.
    features = [{"name": name} for name in names]
    normalise_preview({"hostId": {"type": "string", "value": "h"}, "features": features})
    return names


def _check_writable(json_file: Path) -> None:
    """Raise InvalidInput when the sheet could not be written, before anything is sent."""
    if json_file.is_dir():
        raise InvalidInput(f"--json {json_file}: that is a directory")
    if not json_file.parent.is_dir():
        raise InvalidInput(f"--json {json_file}: there is no directory {json_file.parent}")
    if not os.access(json_file if json_file.exists() else json_file.parent, os.W_OK):
        raise InvalidInput(f"--json {json_file}: it may not be written")


def _read_login(user: str | None, password_stdin: bool) -> Login | None:
    """Read a password from standard input, where a user is named. Raises InvalidInput."""
    if (user is not None) != password_stdin:
        raise InvalidInput("Give --user and --password-stdin together")
    if user is None:
        return None
    data = read_password(PASSWORD_BYTES_MAX)
    try:
        password = data.decode()
    except UnicodeDecodeError:
        raise InvalidInput("The password on standard input is not UTF-8") from None
    if not 1 <= len(data) <= PASSWORD_BYTES_MAX or not user:
        raise InvalidInput(f"The password has 1 to {PASSWORD_BYTES_MAX} bytes; the user a name")
    return Login(user, password)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does: everything is given back first."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(EXIT_TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
