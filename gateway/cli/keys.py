"""`keys`: make a key pair, and say which client keys an instance trusts.

Decided here: how a pair is laid down in files, and that a key is never replaced in silence. Not
decided here: which keys are strong enough (core/keys.py), how many there may be (core/keyring.py).
Source: INTERFACE 1, SEMANTICS 10.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import click

from gateway.cli.instances import edit_instance
from gateway.cli.names import NamedGroup
from gateway.cli.options import configured, example, read_bounded
from gateway.config import Config
from gateway.core.catalogue_edits import with_key, without_key
from gateway.core.errors import InvalidInput
from gateway.core.fingerprint import visible_ascii
from gateway.core.key_uploads import without_lapsed
from gateway.core.keys import (
    ALGORITHMS,
    KEY_BYTES_MAX,
    algorithm_of,
    generate,
    load_public,
    private_pem,
    public_der,
    public_pem,
    thumbprint,
)
from gateway.core.model import Key
from gateway.core.moments import iso


@click.group(
    cls=NamedGroup,
    epilog=example("keys generate --out keys", "keys add DEMO00000001 --public keys/public.pem"),
)
def keys() -> None:
    """Make, add, list and revoke client keys."""


@keys.command("generate", epilog=example("keys generate --out keys --alg ES256"))
@click.option("--out", type=Path, required=True, metavar="DIR", help="Where the files go.")
@click.option("--alg", type=click.Choice(ALGORITHMS), default="RS256", show_default=True)
@configured()
def generate_pair(config: Config, out: Path, alg: str) -> None:
    """Make a key pair: private.pem (keep it secret), public.pem and public.der. Prints the kid."""
    private = generate(alg)
    public = private.public_key()
    files = {
        "private.pem": (private_pem(private), 0o600),
        "public.pem": (public_pem(public), 0o644),
        "public.der": (public_der(public), 0o644),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"The directory {out} cannot be made: {error.strerror}") from None
    there = [str(out / name) for name in files if os.path.lexists(out / name)]
    if there:
        raise InvalidInput(f"{', '.join(there)} exists and is not overwritten; take another --out")
    for name, (data, mode) in files.items():
        _write_new(out / name, data, mode)
    click.echo(thumbprint(public))


@keys.command("add", epilog=example("keys add DEMO00000001 --public keys/public.pem --kid k1"))
@click.argument("instance")
@click.option("--public", type=Path, required=True, metavar="FILE", help="Public key, PEM or DER.")
@click.option("--kid", help="Its name; default the RFC 7638 thumbprint.")
@click.option("--alg", type=click.Choice(ALGORITHMS), help="Checked against the key.")
@click.option("--forwarder", is_flag=True, help="A gateway below: its ids are remembered longer.")
@configured()
def add(
    config: Config, instance: str, public: Path, kid: str | None, alg: str | None, forwarder: bool
) -> None:
    """Trust a client key for an instance (~ is the default one). Prints the kid."""
    loaded = load_public(read_bounded(public, "The key", KEY_BYTES_MAX))
    found = algorithm_of(loaded)
    if alg not in (None, found):
        raise InvalidInput(f"--alg is {alg}, but {public} is a key for {found}")
    if kid is not None and not visible_ascii(kid):
        raise InvalidInput("--kid must be 1 to 255 visible ASCII characters")
    key = Key(kid or thumbprint(loaded), found, public_der(loaded), forwarder=forwarder)
    now_ms = int(time.time() * 1000)
    asyncio.run(
        edit_instance(
            config, instance, lambda catalogue: with_key(without_lapsed(catalogue, now_ms), key)
        )
    )
    click.echo(key.kid)


@keys.command("list", epilog=example("keys list DEMO00000001"))
@click.argument("instance")
@configured()
def list_keys(config: Config, instance: str) -> None:
    """List the client keys of an instance: kid, algorithm, where from, forwarder, until when."""
    for key in asyncio.run(edit_instance(config, instance, lambda catalogue: catalogue)).keys:
        origin = "file" if key.provisioned else "uploaded" if key.uploaded else "added"
        forwarder = "  forwarder" if key.forwarder else ""
        until = "" if key.until_ms is None else f"  until {iso(key.until_ms)}"
        click.echo(f"{key.kid}  {key.alg}  {origin}{forwarder}{until}")


@keys.command("revoke", epilog=example("keys revoke DEMO00000001 k1"))
@click.argument("instance")
@click.argument("kid")
@configured()
def revoke(config: Config, instance: str, kid: str) -> None:
    """Trust a client key no longer. One that a provisioning file declares is back with `apply`."""
    asyncio.run(edit_instance(config, instance, lambda catalogue: without_key(catalogue, kid)))
    click.echo(f"revoked {kid}")


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that must not be there yet; its mode is right from its first moment on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
