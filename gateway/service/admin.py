"""Administrators: the log-in, and the one door in front of every endpoint that is theirs.

Decided here: that whatever is wrong with a log-in is one 401 after the same work (an instance or a
user that does not exist is tried against a decoy), that attempts are counted before they are made,
and that a token is worth what its user may do now: the roles of the token that the catalogue in
force still gives, also at the moment of a change. No role implies another. Not decided here: what
a token says (core/sessions.py), how passwords are hashed (core/passwords.py), how attempts are
counted (store/logins.py).
Source: protocols/cmapi.md 3.3 and 7.1, SEMANTICS 10.
"""

from __future__ import annotations

import asyncio
import math
import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec
import structlog

from gateway.core.catalogue import CatalogueIndex
from gateway.core.decisions import Decision
from gateway.core.errors import (
    Forbidden,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UserAuthFailed,
)
from gateway.core.model import Catalogue, Role, User, is_instance_id
from gateway.core.passwords import DECOY, verify_password
from gateway.core.sessions import (
    SESSION_S,
    Session,
    SessionKey,
    issue_session,
    verify_session,
)
from gateway.service.credentials import DEFAULT_INSTANCE, NO_INSTANCE, bearer
from gateway.store.catalogues import CatalogueConflict, Catalogues
from gateway.store.logins import Logins
from gateway.store.rewriting import rewrite

HASHES_MAX: Final = 2  # passwords looked at at once, 32 MiB each
WAITING_MAX: Final = 32  # log-ins under way in this process; more would wait for over a second

_log = structlog.get_logger("gateway.admin")


class Verify(Protocol):
    """Reads one kind of token; see gateway.core.sessions.verify_session."""

    def __call__(
        self, key: SessionKey, text: str | bytes, *, instance: str, now_s: float
    ) -> Session | None: ...


class Who(msgspec.Struct, frozen=True):
    """A verified administrator: of which instance, with which roles now, and asked for which."""

    index: CatalogueIndex
    session: Session
    roles: frozenset[str]
    asked: tuple[Role, ...]

    @property
    def instance(self) -> str:
        return self.index.catalogue.id

    @property
    def user(self) -> str:
        return self.session.user


class Issued(msgspec.Struct, frozen=True):
    """A session that begins. `token` is a secret of whoever logged in."""

    token: str
    expires_s: int

    def __repr__(self) -> str:
        return f"Issued(expires_s={self.expires_s})"


class Hashing:
    """Looks at passwords beside the event loop, HASHES_MAX at once and WAITING_MAX in all."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(HASHES_MAX, thread_name_prefix="password")
        self._places = threading.BoundedSemaphore(WAITING_MAX)

    async def verify(self, kept: str, password: bytes) -> bool:
        """Say whether `kept` is a hash of `password`. Raises TooManyRequests when too many wait."""
        if not self._places.acquire(blocking=False):
            raise TooManyRequests("Too many log-ins at once; try again")
        hashed = self._threads.submit(verify_password, kept, password)
        # Of the hash and not of the caller: who leaves keeps its place until its hash is done, or
        # whoever hangs up at once could have more of them waiting than WAITING_MAX.
        hashed.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(hashed)


@dataclass(slots=True)
class Admin:
    """Logs administrators in and knows them again. `now_s` is wall-clock time."""

    catalogues: Catalogues
    logins: Logins
    key: SessionKey = field(repr=False)
    now_s: Callable[[], float]
    session_s: int = SESSION_S
    hashing: Hashing = field(default_factory=Hashing)

    async def authorize(self, named: str, user: str, password: str, address: str) -> Issued:
        """Begin a session of `user` at the instance named in the path, and give its token.

        Raises what `login` raises.
        """
        session = await self.login(named, user, password, address)
        return Issued(issue_session(self.key, session), session.expires_s)

    async def login(self, named: str, user: str, password: str, address: str) -> Session:
        """Begin a session of `user` at the instance named in the path; its token is not made yet.

        Raises UserAuthFailed, the same whatever was wrong; TooManyRequests when too many attempts
        of that name or address failed lately or are under way, also for the right password;
        Unavailable.
        """
        # Before the catalogue is read: a session of a password that is replaced while it is looked
        # at is then older than the new one, and worth nothing.
        asked_s = self.now_s()
        instance, index = await self._resolved(named)
        attempt = await self.logins.begin(instance, user, address)
        found = None if index is None else index.users.get(user)
        kept = DECOY if found is None else found.password_hash
        try:
            right = await self.hashing.verify(kept, password.encode())
        except TooManyRequests:
            await self.logins.withdrawn(attempt)
            raise
        if not right or found is None:
            # A name that nobody has is not told: people type passwords in the wrong place.
            shown = "" if found is None else user
            _log.warning("login_failed", instance=instance, user=shown, address=address)
            await self.logins.failed(attempt)
            raise UserAuthFailed(user)
        await self.logins.succeeded(attempt)
        _log.info("login", instance=instance, user=user, address=address)
        return self.session(instance, found, asked_s)

    def session(self, instance: str, user: User, asked_s: float) -> Session:
        """Give the session that begins for a user that was asked for at `asked_s`."""
        issued_s = max(math.floor(asked_s), user.since_s)
        return Session(
            user=user.name,
            instance=instance,
            roles=frozenset(user.roles),
            issued_s=issued_s,
            expires_s=issued_s + self.session_s,
            xsrf=str(uuid.uuid4()),
        )

    async def admin(
        self,
        named: str,
        authorization: str | None,
        *roles: Role,
        verify: Verify = verify_session,
    ) -> Who:
        """Know the administrator whose token came in the `Authorization` header, for an endpoint
        that asks for one of `roles`, or with none for any user. `verify` reads the kind of token.

        The catalogue in force is asked each time, so that who was removed, lost a role or got
        another password is refused at once. Raises Unauthorized, the same for everything that does
        not verify for this instance; Forbidden, naming the first of `roles`; Unavailable.
        """
        _, index = await self._resolved(named)
        session = verify(
            self.key,
            bearer(authorization),
            instance="" if index is None else index.catalogue.id,
            now_s=self.now_s(),
        )
        if session is None or index is None:
            raise Unauthorized
        held = _held(session, index.users.get(session.user), roles)
        return Who(index, session, held, roles)

    async def again(self, who: Who) -> Who:
        """Judge somebody who was let in by the catalogue in force now.

        Raises Unauthorized; Forbidden when it no longer gives the role that was asked for;
        Unavailable.
        """
        index = await self.catalogues.read(who.instance)
        if index is None:
            raise Unauthorized
        held = _held(who.session, index.users.get(who.user), who.asked)
        return Who(index, who.session, held, who.asked)

    async def change(
        self,
        who: Who,
        edit: Callable[[Catalogue], Catalogue],
        discards: Mapping[str, Decision] | None = None,
    ) -> Catalogue:
        """Write what `edit` makes of the catalogue in force, and give that.

        Usage that waits for an upstream in `discards` is given up when that is detached. Nothing is
        written when it changes nothing. Raises what `edit` raises; Unauthorized or
        Forbidden when that catalogue no longer lets `who` do it; Unavailable.
        """

        def permitted(current: Catalogue) -> Catalogue:
            # It is read anew for each try, and the credential was judged by an earlier one.
            users = (user for user in current.users if user.name == who.user)
            _held(who.session, next(users, None), who.asked)
            return edit(current)

        try:
            return await rewrite(self.catalogues, who.instance, permitted, discards)
        except CatalogueConflict as error:
            raise Unavailable("The catalogue changes too fast to follow", "not_applied") from error

    async def _resolved(self, named: str) -> tuple[str, CatalogueIndex | None]:
        """Find the instance that a path names, by the same look at the store where there is none.

        Gives its id, or for one that does not exist what its log-ins are counted under.
        """
        instance = named if is_instance_id(named) else NO_INSTANCE
        if named == DEFAULT_INSTANCE:
            instance = await self.catalogues.default() or NO_INSTANCE
        index = await self.catalogues.fresh(instance)
        if named == DEFAULT_INSTANCE and (index is None or not index.catalogue.default):
            # Perhaps it means another one now: what was remembered may have said so wrongly.
            meant = await self.catalogues.default() or instance
            if meant != instance:
                instance, index = meant, await self.catalogues.fresh(meant)
        return instance, index


def _held(session: Session, user: User | None, asked: tuple[Role, ...]) -> frozenset[str]:
    """Say which roles a session is worth, of its user as the catalogue has it now.

    Raises Unauthorized when it is no session of this user; Forbidden when none of `asked` is held.
    """
    if user is None or session.issued_s < user.since_s:
        raise Unauthorized
    held = session.roles.intersection(user.roles)
    if asked and held.isdisjoint(asked):
        raise Forbidden(f"Role {asked[0]} is required", asked[0])
    return held
