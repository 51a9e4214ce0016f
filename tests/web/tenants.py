"""Two instances at one gateway, each with its clients and administrators: who is let in where.

Decided here: which credentials there are, honest ones and others, and what counts as having moved.
Names, roles and passwords are the same at both: only the instance tells them apart.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
from msgspec.structs import replace

from gateway.core.base64url import b64url_decode
from gateway.core.model import Role, User
from gateway.core.sessions import Session, SessionKey, issue_session
from gateway.store.keys import META
from tests.vectors.credentials import keys_of, token
from tests.vectors.loader import applied
from tests.vectors.served import Served, serving
from tests.web.desks import HASH
from tests.web.operations import ASKED, HOST, Operation, Way

EVERY: Final = tuple(Role)

OWN, OTHER, NOWHERE = "OWN", "OTHER", "NOWHERE"

THE_401: Final = {
    "key": "gateway.unauthorized",
    "message": "Not a valid credential for this instance",
    "arguments": [],
}

# Every key with a digest of its content: one step, however much there is. The members of a hash and
# of a set are sorted, for the store orders them anew while its tables grow. The clock of the store,
# which a ledger notes, goes on whatever happens; and it is tried out now and then (a pulse).
_CONTENT: Final = """
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind, members = redis.call('TYPE', key).ok, {}
  if kind == 'hash' then
    local flat = redis.call('HGETALL', key)
    for at = 1, #flat, 2 do
      if key:sub(-7) ~= ':ledger' or flat[at] ~= 'last_ms' then
        members[#members + 1] = flat[at] .. '=' .. flat[at + 1]
      end
    end
  elseif kind == 'set' then
    members = redis.call('SMEMBERS', key)
  else
    members[1] = redis.call('DUMP', key) or ''
  end
  if key:sub(-6) ~= ':pulse' then
    table.sort(members)
    found[#found + 1] = key
    found[#found + 1] = redis.sha1hex(table.concat(members, ';'))
  end
end
return found
"""

Story = Callable[[], Awaitable[None]]


@contextmanager
def tenants_serving(data_dir: Path, **settings: str) -> Iterator[Tenants]:
    """Open a gateway in real time that explains and grants no skew."""
    with serving(
        data_dir,
        prelude=None,
        EXPLAIN__RETENTION="1h",
        TOKEN__CLOCK_SKEW_S="0",
        **settings,
    ) as served:
        yield served.run(_settled(served))


async def _settled(served: Served) -> Tenants:
    secret = b64url_decode(await served.store.hget(META, "session_key"))
    assert secret is not None
    tenants = Tenants(served, SessionKey(secret))
    await tenants.settle()
    return tenants


class Tenants:
    """`OWN`, the default instance, and `OTHER`; `NOWHERE` is none. h1 holds an editor of each."""

    def __init__(self, served: Served, key: SessionKey) -> None:
        self.served, self.http, self._key = served, served.http, key

    def at_rest(self, story: Story) -> None:
        """Run a story that is to move nothing in the store."""

        async def told() -> None:
            async with self.nothing_moves():
                await story()

        self.served.run(told())

    @asynccontextmanager
    async def nothing_moves(self) -> AsyncIterator[None]:
        """Look at whatever the store has before and after, byte for byte but for its clock."""
        before = await self._state()
        yield
        assert await self._state() == before

    def moving(self, story: Story) -> None:
        """Run a story that may change anything; the next one finds it as it was."""

        async def told() -> None:
            try:
                await story()
            finally:
                await self.settle()

        self.served.run(told())

    async def settle(self) -> None:
        """Provision both anew, and let h1 ask at both; no failed log-in, no id is left."""
        old = [key for key in await self.served.keys() if ":l:" in key or ":d:" in key]
        if old:
            await self.served.store.delete(*old)
        for instance, whose in ((OTHER, "other"), (OWN, "own")):
            users = (
                User("ann", HASH, tuple(role.value for role in EVERY)),
                User("nobody", HASH, ()),
                *(User(role.value, HASH, (role.value,)) for role in EVERY),
            )
            found = await self.served.catalogues.read(instance)
            await self.served.catalogues.put(
                replace(
                    applied("DEMO", instance, found and found.catalogue),
                    default=instance == OWN,
                    keys=keys_of(whose),
                    users=users,
                )
            )
            credential = bearer(token("token" if whose == "own" else "token-other"))
            answer = await self.http.post(
                f"/api/1.0/instances/{instance}/access_request",
                headers=credential | {"Idempotency-Key": ASKED},
                json={"hostId": HOST, "features": [{"name": "editor"}]},
            )
            assert answer.status_code == 200, answer.text

    async def change(self, instance: str, **changes: Any) -> None:
        """Change what is provisioned as another process would."""
        found = await self.served.catalogues.read(instance)
        assert found is not None
        await self.served.catalogues.put(replace(found.catalogue, **changes))

    def session(
        self,
        *roles: Role,
        user: str = "ann",
        instance: str = OWN,
        issued_s: int | None = None,
        lasts_s: int = 600,
    ) -> dict[str, str]:
        """Give the header of a session; without a word more, of one of `own` that is good."""
        issued_s = int(time.time()) if issued_s is None else issued_s
        said = Session(
            user=user,
            instance=instance,
            roles=frozenset(role.value for role in roles),
            issued_s=issued_s,
            expires_s=issued_s + lasts_s,
            xsrf="00000000-0000-4000-8000-000000000000",
        )
        return bearer(issue_session(self._key, said))

    def good(self, operation: Operation) -> dict[str, str]:
        """Give the credential with which an operation of `own` lets in."""
        if operation.way is Way.CLIENT:
            return bearer(token())
        return self.session(*EVERY) if operation.way is Way.ADMINISTRATOR else {}

    async def send(
        self,
        operation: Operation,
        credential: dict[str, str] | None = None,
        *,
        instance: str = OWN,
        method: str | None = None,
        **more: Any,
    ) -> httpx.Response:
        """Send a good request with a credential, or with none; `more` is laid over it."""
        path = operation.at(instance)
        headers = dict(credential or {})
        if operation.media_type:
            headers["Content-Type"] = operation.media_type
        sent = {"headers": headers, "content": operation.body} | more
        return await self.http.request(method or operation.method, path, **sent)

    async def refuse(
        self,
        operation: Operation,
        credential: dict[str, str] | None = None,
        *,
        said: str = "",
        **more: Any,
    ) -> None:
        """Send a request as `send` does, and see that the answer is the one 401; `said` is why."""
        answer = await self.send(operation, credential, **more)
        assert answer.status_code == 401, (said, more, answer.text)
        assert answer.json() == THE_401
        headers = dict(answer.headers)
        assert len(headers.pop("gateway-request-id")) == 22
        headers.pop("date")
        headers.pop("connection", None)  # now and then the server asks for a new one
        assert headers == {
            "content-type": "application/json",
            "content-length": str(len(answer.content)),
            "www-authenticate": "Bearer",
            "server": "hypercorn-h11",
        }

    async def _state(self) -> dict[bytes, bytes]:
        flat = await self.served.store.eval(_CONTENT, 0)
        return dict(zip(flat[::2], flat[1::2], strict=True))


def bearer(text: str) -> dict[str, str]:
    """Give the header that a token is sent in."""
    return {"Authorization": f"Bearer {text}"}


def without_ids(answer: httpx.Response) -> Any:
    """Give status, headers and body of an answer, without what is each answer's or connection's.

    Of metrics, which change while nobody asks, it gives the names.
    """
    apart = ("date", "gateway-request-id", "connection")
    headers = {name: value for name, value in answer.headers.items() if name not in apart}
    if not answer.headers.get("content-type", "").startswith("application/openmetrics-text"):
        return answer.status_code, headers, answer.content
    headers.pop("content-length", None)
    names = [line.rpartition(" ")[0] for line in answer.text.splitlines()]
    return answer.status_code, headers, names
