"""The rights of a user of the store that the gateway needs, and no others.

They are what the README tells the owner of a store to allow. A store notes what it refuses anybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.stores.servers import Server

USER, WATCHER = "gateway", "watcher"
SECRET = "s3cr%40t"  # as it stands in a URL
RIGHTS = (
    *("~gw:*", "resetchannels", "-@all"),
    *("+client|setinfo", "+info", "+role", "+time", "+config|get", "+wait", "+waitaof"),
    *("+eval", "+evalsha", "+script|load", "+multi", "+exec", "+watch", "+unwatch"),
    *("+get", "+mget", "+set", "+del", "+exists", "+incrby", "+pexpire", "+pttl"),
    *("+hdel", "+hget", "+hgetall", "+hincrby", "+hkeys", "+hlen", "+hmget", "+hscan"),
    *("+hset", "+hsetnx", "+rename", "+sadd", "+scan", "+smembers", "+srem"),
    *("+xadd", "+xrange", "+xrevrange"),
    *("+zadd", "+zcard", "+zmscore", "+zrange", "+zrangebyscore", "+zrank", "+zrem"),
    *("+zremrangebyscore", "+zscan", "+zscore"),
)
CLUSTER_RIGHTS = (*RIGHTS, "+asking", "+cluster|info", "+cluster|slots")
SENTINEL_RIGHTS = ("resetchannels", "-@all", "+client|setinfo", "+sentinel|masters")


def allow(servers: Iterable[Server], rights: Sequence[str], user: str = USER) -> None:
    """Write the user into the servers' files, before they start."""
    for server in servers:
        server.configure([f"user {user} on >{SECRET.replace('%40', '@')} {' '.join(rights)}"])


def url_of(url: str) -> str:
    """Give the URL of a store by which that user reaches it."""
    return url.replace("://", f"://{USER}:{SECRET}@")


def url_of_watched(url: str) -> str:
    """Give the URL of a store behind sentinels by which both users reach it."""
    return f"{url_of(url)}?sentinel_username={WATCHER}&sentinel_password={SECRET}"


def refused(servers: Iterable[Server]) -> set[str]:
    """Give what servers refused anybody since they started."""
    noted = [entry for server in servers for entry in server.ask("ACL", "LOG")]
    return {f"{entry['reason']} {entry['object']}" for entry in noted}
