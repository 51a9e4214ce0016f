"""The gateway's own keys: the signing key (a file that is named, one in the data dir, or one in
`gw:meta`) and the session key (always in `gw:meta`).

Decided here: that all replicas over one store have the same keys, and that a key is made at most
once, however many processes start together. Neither key is ever logged. Source: DESIGN 4,
INTERFACE 2.
"""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Any

from gateway.core.base64url import b64url_decode, b64url_encode
from gateway.core.errors import InvalidInput
from gateway.core.keys import PrivateKey, algorithm_of, generate, load_private, private_pem
from gateway.core.sessions import SECRET_BYTES, SessionKey
from gateway.store.durable import answered
from gateway.store.files import write_once
from gateway.store.keys import META
from gateway.store.opening import Store
from gateway.store.topology import Client

KEY_FILE = "signing.pem"


async def signing_key(store: Store, alg: str, named: Path | None, data_dir: Path) -> PrivateKey:
    """Give the key that signs answers, made on first use unless a file is named.

    Raises InvalidInput for a file that cannot be read or a key of another algorithm than `alg`,
    Unavailable.
    """
    embedded = store.embedded is not None
    if named is None and embedded:
        await asyncio.to_thread(_make, data_dir / KEY_FILE, alg)
    elif named is None:
        made = private_pem(generate(alg)).decode()
        await store.durable.run("HSETNX", META, "signing_key", made)
    origin, key = await find_signing_key(store.client, named, data_dir, embedded=embedded)
    if key is None:
        raise InvalidInput(f"The signing key in {origin} was taken away; start again")
    if algorithm_of(key) != alg:
        raise InvalidInput(
            f"The signing key in {origin} is for {algorithm_of(key)}, signing.alg is {alg}"
        )
    return key


async def find_signing_key(
    client: Client, named: Path | None, data_dir: Path, *, embedded: bool
) -> tuple[str, PrivateKey | None]:
    """Say where the key that signs answers is, and give it; None: it will be made on first use.

    Raises InvalidInput for a file that cannot be read or is no key, Unavailable. Makes nothing.
    """
    pem: Any = None
    if named is not None:
        origin, pem = str(named), await asyncio.to_thread(_read, named)
    elif embedded:
        path = data_dir / KEY_FILE
        origin, pem = str(path), await asyncio.to_thread(_read, path) if path.exists() else None
    else:
        reading: Any = client.hget(META, "signing_key")
        origin, pem = f"the store's {META}", await answered(reading)
    return origin, None if pem is None else load_private(pem)


async def session_key(store: Store) -> SessionKey:
    """Give the key that administrators' tokens are made with, made on first use.

    Raises InvalidInput for one in the store that is damaged, Unavailable. Without it no token is
    valid any more; whoever takes it out logs everybody out once the gateways have started anew.
    """
    fresh = b64url_encode(secrets.token_bytes(SECRET_BYTES))
    await store.durable.run("HSETNX", META, "session_key", fresh)
    reading: Any = store.client.hget(META, "session_key")
    secret = b64url_decode(await answered(reading))
    if secret is None or len(secret) != SECRET_BYTES:
        raise InvalidInput(f"The session key in the store's {META} is damaged; remove that field")
    return SessionKey(secret)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"The signing key {path} cannot be read: {error.strerror}") from error


def _make(path: Path, alg: str) -> None:
    if not path.exists():
        write_once(path, private_pem(generate(alg)), 0o600)
