"""How often one may try to log in: counters in the store, shared by all replicas.

Decided here: two counters with a window each, one per user name and instance, one per address over
all instances, and that an attempt is counted before it is made: as under way, then as failed unless
it was right. Not decided here: what an attempt is and what became of it (service/admin.py). A name
that exists is counted like one that does not.
"""

from __future__ import annotations

import ipaddress
import uuid
from dataclasses import dataclass
from typing import Final

from gateway.core.errors import TooManyRequests
from gateway.store.durable import answered
from gateway.store.keys import InstanceKeys, address_logins, logins_under_way
from gateway.store.scripts import Scripts
from gateway.store.topology import Client

PER_USER_MAX: Final = 10
PER_ADDRESS_MAX: Final = 30
WINDOW_MS: Final = 300_000
LAPSE_MS: Final = 30_000  # an attempt takes a second or so; one for longer ended without a word
_IPV6_SITE: Final = 64  # bits; whoever has one such address has all of its network


@dataclass(frozen=True, slots=True)
class Attempt:
    """A log-in that was counted; its id and its two counters."""

    id: str
    user_key: str
    address_key: str


@dataclass(frozen=True, slots=True)
class Logins:
    """Counts log-ins. At most `per_user_max` of a name and `per_address_max` of an address may
    fail within `window_ms` of the first, or be under way beside those.
    """

    client: Client
    scripts: Scripts
    partitions: int
    per_user_max: int = PER_USER_MAX
    per_address_max: int = PER_ADDRESS_MAX
    window_ms: int = WINDOW_MS

    async def begin(self, instance: str, user: str, address: str) -> Attempt:
        """Count an attempt. Raises TooManyRequests, saying when one may try again; Unavailable.

        What is refused is not counted: a client that keeps trying is not locked out for longer.
        Where it is for those under way, another may begin as soon as one of them ends.
        """
        attempt = Attempt(
            uuid.uuid4().hex,
            InstanceKeys(instance, self.partitions).logins(user),
            address_logins(site_of(address), self.partitions),
        )
        wait_ms = await self._run("begin", attempt.id, attempt.address_key, self.per_address_max)
        if not wait_ms:
            wait_ms = await self._run("begin", attempt.id, attempt.user_key, self.per_user_max)
            if wait_ms:
                await self._run("return", attempt.id, attempt.address_key)
        if wait_ms:
            raise TooManyRequests(
                "Too many log-ins failed or under way; try again later", -(-wait_ms // 1000)
            )
        return attempt

    async def failed(self, attempt: Attempt) -> None:
        """Count an attempt as failed. Before that is told: who guesses must not outrun it."""
        await self._run("fail", attempt.id, attempt.user_key)
        await self._run("fail", attempt.id, attempt.address_key)

    async def succeeded(self, attempt: Attempt) -> None:
        """Take an attempt back that was none at guessing: the name's count starts anew."""
        await self._run("clear", attempt.id, attempt.user_key)
        await self._run("return", attempt.id, attempt.address_key)

    async def withdrawn(self, attempt: Attempt) -> None:
        """Take an attempt back of which no password was looked at."""
        await self._run("return", attempt.id, attempt.user_key)
        await self._run("return", attempt.id, attempt.address_key)

    async def _run(self, what: str, attempt_id: str, key: str, most: int = 0) -> int:
        keys = [key, logins_under_way(key)]
        args = [what, attempt_id, most, self.window_ms, LAPSE_MS]
        return int(await answered(self.scripts.logins.run(self.client, keys, args)))


def site_of(address: str) -> str:
    """Name what an address is one of: itself, or the /64 network of IPv6, which is one site.

    An address that is none (of a unix socket, say) stands for itself. Pure.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, _IPV6_SITE), strict=False))
