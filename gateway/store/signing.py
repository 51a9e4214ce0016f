"""The gateway's own keys: the signing key (a file that is named, one in the data dir, or one in
`gw:meta`) and the session key (always in `gw:meta`).

Decided here: that all replicas over one store have the same keys, and that a key is made at most
once, however many processes start together. Neither key is ever logged. Source: DESIGN 4,
INTERFACE 2.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.core.base64url import b64url_decode, b64url_encode
from gateway.core.errors import InvalidInput
from gateway.core.keys import PrivateKey, algorithm_of, generate, load_private, private_pem
from gateway.core.sessions import SECRET_BYTES, SessionKey
from gateway.store.keys import META
from gateway.store.opening import Store

KEY_FILE = "signing.pem"


async def signing_key(store: Store, alg: str, named: Path | None, data_dir: Path) -> PrivateKey:
    """Give the key that signs answers, made on first use unless a file is named.

    Raises InvalidInput for a file that cannot be read or a key of another algorithm than `alg`.
    """
    if named is not None:
        origin, pem = str(named), await asyncio.to_thread(_read, named)
    elif store.embedded is not None:
        path = data_dir / KEY_FILE
        origin, pem = str(path), await asyncio.to_thread(_read_or_make, path, alg)
    else:
        origin = f"the store's {META}"
        await store.client.hsetnx(META, "signing_key", private_pem(generate(alg)).decode())
        found: Any = await store.client.hget(META, "signing_key")
        pem = found
    key = load_private(pem)
    if algorithm_of(key) != alg:
        raise InvalidInput(
            f"The signing key in {origin} is for {algorithm_of(key)}, signing.alg is {alg}"
        )
    return key


async def session_key(store: Store) -> SessionKey:
    """Give the key that administrators' tokens are made with, made on first use.

    Raises InvalidInput for one in the store that is damaged. Without it no token is valid any more;
    whoever takes it out logs everybody out once the gateways have started anew.
    """
    fresh = b64url_encode(secrets.token_bytes(SECRET_BYTES))
    await store.client.hsetnx(META, "session_key", fresh)
    found: Any = await store.client.hget(META, "session_key")
    secret = b64url_decode(found)
    if secret is None or len(secret) != SECRET_BYTES:
        raise InvalidInput(f"The session key in the store's {META} is damaged; remove that field")
    return SessionKey(secret)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"The signing key {path} cannot be read: {error.strerror}") from error


def _read_or_make(path: Path, alg: str) -> bytes:
    if not path.exists():
        # Written whole under another name, then linked: a reader never sees half a key, and of two
        # makers the first one wins.
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(private_pem(generate(alg)))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return _read(path)
