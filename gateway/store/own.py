"""What a gateway has of its own beside its instances: its default instance and its keys.

Decided here: which of them go into a backup, by which name, and where a restore puts them: in
`gw:meta`, or in the files that the embedded store's gateway makes in its data dir. Files that are
named by the configuration are for whoever named them. A file that is written over stays beside the
new one. To lose a session key is no loss: administrators log in again. Not decided here: how keys
are made (signing.py, chain.py). Source: DESIGN 4, INTERFACE 2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.core.errors import InvalidInput
from gateway.store import chain, signing
from gateway.store.durable import answered
from gateway.store.files import write_over
from gateway.store.keys import META
from gateway.store.opening import Store

SIGNING_KEY: Final = "signing_key"
LICENSESPRING: Final = ("licensespring_key", "licensespring_chain")  # of use only together
FILES: Final = {
    SIGNING_KEY: signing.KEY_FILE,
    LICENSESPRING[0]: chain.KEY_FILE,
    LICENSESPRING[1]: chain.CHAIN_FILE,
}
IN_STORE: Final = ("default", SIGNING_KEY, "session_key")  # beside layout and partitions
NAMES: Final = frozenset(FILES) | frozenset(IN_STORE)

_LASTING: Final = NAMES - {"session_key"}
_MODES: Final = {LICENSESPRING[1]: 0o644}  # certificates are for clients
_MODE: Final = 0o600


@dataclass(frozen=True)
class Own:
    """What the gateway has of its own. `files`: those in its data dir, by name; see `own_files`."""

    store: Store
    files: Mapping[str, Path]

    @property
    def _in_store(self) -> list[str]:
        # The embedded store's gateway signs with its file, whatever is in `gw:meta`.
        return [
            name for name in IN_STORE if self.store.embedded is None or name not in FILES
        ]  # fmt: skip

    async def read(self) -> dict[str, str]:
        """Give what there is, by name. Raises InvalidInput for an unreadable file, Unavailable."""
        asked: Any = self.store.client.hmget(META, self._in_store)
        found = zip(self._in_store, await answered(asked), strict=True)
        own = {name: text.decode() for name, text in found if text is not None}
        own |= await asyncio.to_thread(_read, self.files)
        if not own.keys() >= set(LICENSESPRING):
            own = {name: text for name, text in own.items() if name not in LICENSESPRING}
        return own

    async def differences(self, theirs: Mapping[str, str]) -> list[str]:
        """Say what would be lost of it for what a backup has of another one."""
        own = await self.read()
        return [
            f"its own {describe(name)}"
            for name in own
            if name in _LASTING and name in theirs and theirs[name] != own[name]
        ]

    def without_place(self, theirs: Mapping[str, str]) -> list[str]:
        """Name what a backup has and this gateway keeps elsewhere, or not at all."""
        return [name for name in theirs if name not in self._in_store and name not in self.files]

    async def put(self, theirs: Mapping[str, str], stamp: str) -> list[Path]:
        """Take what a backup has in the place of its own; gives what was kept beside.

        `stamp` ends the names of those. Raises InvalidInput where a file cannot be written,
        Unavailable; a repeat is safe.
        """
        for name in self._in_store:
            if name in theirs:
                await self.store.durable.run("HSET", META, name, theirs[name])
        return await asyncio.to_thread(self._put_files, theirs, stamp)

    def _put_files(self, theirs: Mapping[str, str], stamp: str) -> list[Path]:
        there = _read(self.files)
        kept = []
        for name, path in self.files.items():
            if name not in theirs or there.get(name) == theirs[name]:
                continue
            beside = path.with_name(f"{path.name}.before-{stamp}")
            try:
                write_over(path, theirs[name].encode(), _MODES.get(name, _MODE), beside)
            except OSError as error:
                raise InvalidInput(f"{path} cannot be written: {error.strerror}") from None
            if name in there:
                kept.append(beside)
        return kept


def describe(name: str) -> str:
    """Say in words what one of the NAMES is."""
    return name.replace("licensespring", "LicenseSpring").replace("_", " ")


def _read(files: Mapping[str, Path]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, path in files.items():
        try:
            found[name] = path.read_text(encoding="ascii")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError):
            raise InvalidInput(f"{path}, the {describe(name)}, cannot be read") from None
    return found
