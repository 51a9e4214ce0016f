"""The scene: two gateways, their keys and their lines, in one directory.

Decided here: what is provisioned, and that it is done by the commands a user has: `serve`, `apply`,
`keys add`. The gateway forwards to the parent, which knows it by a key marked as forwarder. Not
decided here: how the processes live (gateways.py). Source: INTERFACE 2 and 3, SEMANTICS 12.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.cli.demonstration.cmapi import Seal, with_signature, with_token
from gateway.cli.demonstration.gateways import GatewayProcess, free_port, run_command
from gateway.config import Config, load_config
from gateway.core.keys import PrivateKey, generate, private_pem, public_pem
from gateway.core.model import Line, Role
from gateway.core.provisioning import read_provisioning
from gateway.core.tokens import mint_token
from gateway.service.balance import Books, audit
from gateway.store.chain import CHAIN_FILE
from gateway.wiring_store import open_store

INSTANCE: Final = "DEMO00000001"
PARENT: Final = "DEMOPARENT"
UPSTREAM: Final = "parent"
USER: Final = "demo"
PASSWORD_BYTES: Final = 12
DRAIN_S_MAX: Final = 20.0
DRAIN_POLL_S: Final = 0.2
TOKEN_TTL_S: Final = 86_400
FORWARDER: Final = "forwarder"
_KEYS: Final = {"token": "RS256", "es256": "ES256", "eddsa": "EdDSA", FORWARDER: "RS256"}

# One feature name a line. The parent has the same ones, so that it takes what was granted here. To
# clients of LicenseSpring, who come in only where doors are opened for them, all but `pages` are
# one licence.
LINES: Final = """
[[instance.line]]
id = "sessions"
feature = "sessions"
version = "1.0"
count = 100_000_000
model = "metered"
licensespring = { license_id = 1, product = "DEMO" }

[[instance.line]]
id = "users"
feature = "users"
version = "1.0"
count = 4_000
overdraft = "10%"
undo_interval = "1h"
model = "metered"
licensespring = { license_id = 1, product = "DEMO", feature = "users" }

[[instance.line]]
id = "editor"
feature = "editor"
version = "2.0"
count = 12
model = "concurrent"
borrow_interval = "1h"
licensespring = { license_id = 1, product = "DEMO" }

[[instance.line]]
id = "pages"
feature = "pages"
version = "1.0"
count = 150
model = "metered-reusable"

[[instance.line]]
id = "api"
feature = "api"
version = "1.0"
count = "uncounted"
model = "metered"
licensespring = { license_id = 1, product = "DEMO", feature = "api" }
"""

# A feature that is held, which only those clients know.
_VIEWER: Final = """
[[instance.line]]
id = "viewer"
feature = "viewer"
version = "1.0"
count = 6
model = "concurrent"
borrow_interval = "1h"
licensespring = { license_id = 1, product = "DEMO", feature = "viewer" }
"""

_DOORS: Final = f"""
[licensespring]
instance = "{INSTANCE}"
"""

_INSTANCE: Final = """
[[instance]]
id = "{id}"
default = true
"""

_TRUSTED: Final = """
[[instance.key]]
kid = "{kid}"
public_file = "../keys/{kid}/public.pem"
"""

_CONFIG: Final = """
[server]
drain_s = 0.1

[log]
level = "warning"
"""

_FORWARDING: Final = f"""
[[upstream]]
name = "{UPSTREAM}"
kind = "cmapi"
url = "{{url}}"
key_file = "../keys/{FORWARDER}/private.pem"
kid = "{FORWARDER}"
dedupe_horizon = "30d"
interval = "1s"
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """Both gateways running and provisioned; `lines` are those of either."""

    gateway: GatewayProcess
    parent: GatewayProcess
    lines: tuple[Line, ...]
    seals: tuple[Seal, ...]  # half of them with a token

    @property
    def chain_file(self) -> Path:
        """The certificates by which clients of LicenseSpring verify answers of version 2."""
        return self.gateway.data_dir / CHAIN_FILE

    async def let_in(self) -> str:
        """Make USER an administrator of the gateway's instance, who may do all; give a password."""
        password = secrets.token_urlsafe(PASSWORD_BYTES)
        await run_command(
            *("users", "add", INSTANCE, USER, "--roles", ",".join(Role), "--password-stdin"),
            *self.gateway.options,
            told=password,
        )
        return password

    async def drained_books(self) -> tuple[Books, Books]:
        """Wait until all is forwarded, DRAIN_S_MAX at most, and read the gateway's books and the
        parent's, row by row.
        """
        deadline_s = time.monotonic() + DRAIN_S_MAX
        async with (
            open_store(_config(self.gateway)) as store,
            open_store(_config(self.parent)) as above,
        ):
            while True:
                books = await audit(store.catalogues, INSTANCE, deep=True)
                waiting = any(entry.open or entry.sealed for entry in books.lines)
                if not waiting or time.monotonic() > deadline_s:
                    return books, await audit(above.catalogues, PARENT, deep=True)
                await asyncio.sleep(DRAIN_POLL_S)


@asynccontextmanager
async def open_scene(directory: Path, *, floating: bool = False) -> AsyncIterator[Scene]:
    """Set the scene in an empty directory; both gateways are stopped at the end, whatever ends it.

    `floating`: with doors for clients of LicenseSpring. Raises DemoFailed when a gateway does not
    start or a command fails.
    """
    keys = {name: generate(algorithm) for name, algorithm in _KEYS.items()}
    gateway, parent = (_gateway(directory / name) for name in ("gateway", "parent"))
    _write(directory, keys, parent.url, floating=floating)
    try:
        await _all(gateway.start(), parent.start())
        await _all(_provision(gateway), _provision_parent(directory, parent))
        yield Scene(gateway, parent, demo_lines(floating=floating), _seals(keys))
    finally:
        # Below before above, so that nothing is sent to a parent that is gone.
        await gateway.stop()
        await parent.stop()


def demo_lines(*, floating: bool = False) -> tuple[Line, ...]:
    """Give the lines that both gateways are provisioned with."""
    text = _INSTANCE.format(id=INSTANCE) + _lines_text(floating=floating)
    (declared,) = read_provisioning(text, _no_file)
    return declared.lines


def _lines_text(*, floating: bool) -> str:
    return LINES + (_VIEWER if floating else "")


def _gateway(home: Path) -> GatewayProcess:
    return GatewayProcess(
        home / "gateway.toml", home / "var", free_port(), log=home / "gateway.log"
    )


async def _all(*steps: Awaitable[None]) -> None:
    """Take steps at once; when one fails, the others come to their end before it is told."""
    for outcome in await asyncio.gather(*steps, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def _provision(gateway: GatewayProcess) -> None:
    instances = gateway.config_file.with_name("instances.toml")
    await run_command("apply", str(instances), *gateway.options)


async def _provision_parent(directory: Path, parent: GatewayProcess) -> None:
    await _provision(parent)
    public = str(directory / "keys" / FORWARDER / "public.pem")
    # The mark makes the parent remember this key's ids for as long as we may have to repeat them.
    await run_command(
        *("keys", "add", PARENT, "--public", public, "--kid", FORWARDER, "--forwarder"),
        *parent.options,
    )


def _write(
    directory: Path, keys: Mapping[str, PrivateKey], parent_url: str, *, floating: bool
) -> None:
    """Write the keys, and what each gateway is configured and provisioned with."""
    for name, private in keys.items():
        home = directory / "keys" / name
        home.mkdir(parents=True)
        (home / "private.pem").touch(mode=0o600)
        (home / "private.pem").write_bytes(private_pem(private))
        (home / "public.pem").write_bytes(public_pem(private.public_key()))
    forwarding = _FORWARDING.format(url=f"{parent_url}/api/1.0/instances/{PARENT}")
    attached = f'[[instance.upstream]]\nname = "{UPSTREAM}"\n'
    trusted = "".join(_TRUSTED.format(kid=name) for name in keys if name != FORWARDER)
    lines = _lines_text(floating=floating)
    files = {
        "gateway/gateway.toml": _CONFIG + (_DOORS if floating else "") + forwarding,
        "gateway/instances.toml": _INSTANCE.format(id=INSTANCE) + attached + trusted + lines,
        "parent/gateway.toml": _CONFIG,
        "parent/instances.toml": _INSTANCE.format(id=PARENT) + lines,
    }
    for name, text in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text, encoding="utf-8")


def _no_file(name: str) -> bytes:
    raise FileNotFoundError(name)


def _seals(keys: Mapping[str, PrivateKey]) -> tuple[Seal, ...]:
    """Give the ways of asking; clients take them in turn, so that half of them use a token."""
    token = mint_token(keys["token"], sub="demo", now_s=time.time(), ttl_s=TOKEN_TTL_S, kid="token")
    by_token = with_token(token)
    signed = [with_signature(keys[name], name, INSTANCE) for name in ("es256", "eddsa")]
    return by_token, signed[0], by_token, signed[1]


def _config(gateway: GatewayProcess) -> Config:
    return load_config(gateway.config_file, {}, {"data_dir": gateway.data_dir})
