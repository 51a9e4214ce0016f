"""`token`: mint a capability token, the bearer credential of CMAPI. Source: INTERFACE 1."""

from __future__ import annotations

import time
from pathlib import Path

import click

from gateway.cli.options import configured, example, read_bounded
from gateway.config import Config
from gateway.core.errors import InvalidInput
from gateway.core.intervals import parse_interval_s
from gateway.core.keys import KEY_BYTES_MAX, load_private
from gateway.core.tokens import mint_token


@click.command(epilog=example("token --key keys/private.pem --sub fleet-1 --ttl 12h"))
@click.option("--key", type=Path, required=True, metavar="FILE", help="RSA private key, PKCS#8.")
@click.option("--sub", default="cmapi-gateway", show_default=True, help="Who it is for.")
@click.option("--ttl", default="1h", show_default=True, help="How long it is good: 30m, 1h, 7d.")
@click.option("--kid", help="Name of the key, when the instance has several.")
@configured()
def token(config: Config, key: Path, sub: str, ttl: str, kid: str | None) -> None:
    """Mint a capability token, signed with RS256, and print it."""
    ttl_s = parse_interval_s(ttl)
    if not ttl_s:
        raise InvalidInput(f"--ttl is {ttl[:64]!r}; expected a duration of at least 1s, such as 1h")
    private = load_private(read_bounded(key, "The key", KEY_BYTES_MAX))
    click.echo(mint_token(private, sub=sub, now_s=time.time(), ttl_s=ttl_s, kid=kid))
