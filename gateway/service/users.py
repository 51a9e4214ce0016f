"""The users of an instance, added, changed and removed by its administrators.

Decided here: that a change of a password or of roles ends the sessions that were begun before it,
and that the last administrator stays. Not decided here: how a password is kept (core/passwords.py).
Source: protocols/cmapi.md 7.1, SEMANTICS 10.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final

import structlog
from msgspec.structs import replace

from gateway.core.catalogue_edits import (
    SHOWN_MAX,
    check_administered,
    roles_of,
    with_user,
    without_user,
)
from gateway.core.errors import InvalidInput, TooManyRequests
from gateway.core.model import Catalogue, User, is_user_name
from gateway.core.passwords import SALT_BYTES, hash_password
from gateway.service.admin import Admin, Who

HASHING_MAX: Final = 2  # passwords hashed at once, 32 MiB each

_log = structlog.get_logger("gateway.admin")


@dataclass(slots=True)
class Users:
    """Changes users. `store_s` is the store's time: the clock of this machine may be behind."""

    admin: Admin
    store_s: Callable[[], Awaitable[float]]
    _hashing: int = 0

    async def add(self, who: Who, name: str, roles: Collection[str], password: str) -> None:
        """Let another user log in. Raises InvalidInput, also when there is one of this name."""
        if not is_user_name(name):
            raise InvalidInput(
                f"The name is {name[:SHOWN_MAX]!r}; expected 1 to 64 of A-Z a-z 0-9 . _ @ -"
            )
        held = roles_of(roles)
        made = User(name, await self._hashed(password), held, since_s=await self._from_now())

        def edit(current: Catalogue) -> Catalogue:
            if any(each.name == name and each != made for each in current.users):
                raise InvalidInput(f"There is a user {name} already; change that one")
            return with_user(current, made)

        await self.admin.change(who, edit)
        _log.info("user_added", instance=who.instance, user=who.user, added=name)

    async def change(
        self, who: Who, name: str, roles: Collection[str], password: str | None
    ) -> None:
        """Give a user other roles and, unless it is None, another password.

        Whoever is logged in under that name is logged out. Raises InvalidInput.
        """
        held = roles_of(roles)
        hashed = None if password is None else await self._hashed(password)
        since_s = await self._from_now()

        def edit(current: Catalogue) -> Catalogue:
            found = _of(current, name)
            changed = replace(
                found,
                roles=held,
                password_hash=found.password_hash if hashed is None else hashed,
                since_s=since_s,
            )
            return check_administered(with_user(current, changed))

        await self.admin.change(who, edit)
        _log.info("user_changed", instance=who.instance, user=who.user, changed=name)

    async def remove(self, who: Who, name: str) -> None:
        """Let a user in no longer. Raises InvalidInput."""
        await self.admin.change(
            who, lambda current: check_administered(without_user(current, name))
        )
        _log.info("user_removed", instance=who.instance, user=who.user, removed=name)

    async def _hashed(self, password: str) -> str:
        if self._hashing >= HASHING_MAX:
            raise TooManyRequests("Too many passwords at once; try again")
        self._hashing += 1
        try:
            salt = secrets.token_bytes(SALT_BYTES)
            return await asyncio.to_thread(hash_password, password.encode(), salt)
        finally:
            self._hashing -= 1

    async def _from_now(self) -> int:
        """Say from which second on a session is one of what is written now."""
        # A session is issued in whole seconds: none of this second is of this user.
        return int(max(self.admin.now_s(), await self.store_s())) + 1


def _of(catalogue: Catalogue, name: str) -> User:
    found = next((each for each in catalogue.users if each.name == name), None)
    if found is None:
        raise InvalidInput(f"There is no user {name[:SHOWN_MAX]!r} (any more)")
    return found
