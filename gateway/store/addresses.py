"""What `redis.url` says: which kind of store, where it is, and how connections to it are made.

Decided here: the spelling of redis+sentinel:// and redis+cluster:// (one server's is redis-py's
own, and so are user and password everywhere), which of redis-py's parameters a query may have, and
what is for the sentinels alone.
Nothing is connected here. Source: INTERFACE 2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from redis.asyncio.connection import SSLConnection, parse_url

from gateway.core.errors import InvalidInput
from gateway.store.server import connection_options

SENTINEL_TIMEOUT_S: Final = 0.3  # of each step with a sentinel: when one is away, others know
HOSTS_MAX: Final = 64  # named in a URL
PORT: Final = 6379
SENTINEL_PORT: Final = 26379

# What a query may have: redis-py takes any argument of its classes, also those that change what
# replies are made of, or have a command sent twice. A name that begins with ssl_ is for TLS.
_PARAMETERS: Final = frozenset(
    {"client_name", "db", "health_check_interval", "max_connections", "password"}
    | {"socket_connect_timeout", "socket_keepalive", "socket_timeout", "timeout", "username"}
)
_OF_SENTINELS: Final = frozenset({"sentinel_password", "sentinel_username"})

HostPort = tuple[str, int]

_URL: Final = re.compile(
    r"(?P<scheme>rediss?)\+(?P<kind>sentinel|cluster)://"
    r"(?:(?P<user>[^@/?#\s]*)@)?(?P<hosts>[^/?]+)(?:/(?P<name>[^/?]*))?(?:\?(?P<query>.*))?"
)


class Kind(Enum):
    """How many servers there are, and who tells which of them is asked."""

    SERVER = "server"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True)
class Address:
    """A store's address. `options` and `sentinel_options` are those of redis-py's connections.

    `hosts` are the sentinels, or nodes to begin with; `name` is what the sentinels call the
    primary. Of one server there is only `url`, which redis-py reads.
    """

    kind: Kind
    url: str = field(repr=False)
    hosts: tuple[HostPort, ...] = ()
    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sentinel_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def tls(self) -> bool:
        """Whether connections to sentinels, or to nodes, are over TLS."""
        return self.options.get("connection_class") is SSLConnection


def parse_address(url: str) -> Address:
    """Read a URL that its setting has let pass. Raises InvalidInput for what is in its query."""
    found = _URL.fullmatch(url)
    kind = Kind.SERVER if found is None else Kind(found["kind"])
    _refuse_unknown(url.partition("?")[2], kind)
    if found is None:
        return Address(Kind.SERVER, url)
    default_port = SENTINEL_PORT if kind is Kind.SENTINEL else PORT
    hosts = tuple(_host_port(each, default_port) for each in found["hosts"].split(","))
    if len(hosts) > HOSTS_MAX:
        raise InvalidInput(f"redis.url names {len(hosts)} hosts; expected at most {HOSTS_MAX}")
    user = "" if found["user"] is None else f"{found['user']}@"
    # Read as if it were one server's: user, password, TLS and the query mean the same.
    try:
        given: dict[str, Any] = dict(
            parse_url(f"{found['scheme']}://{user}host?{found['query'] or ''}")
        )
    except ValueError:
        raise InvalidInput("redis.url has a value in its query that cannot be read") from None
    del given["host"]
    own = {name: given.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    sentinel_options = {
        **connection_options(SENTINEL_TIMEOUT_S, SENTINEL_TIMEOUT_S),
        **{name: value for name, value in given.items() if name.startswith("ssl_")},
        **{name: value for name, value in own.items() if value},
        "ssl": given.get("connection_class") is SSLConnection,
    }
    options = connection_options() | given
    return Address(kind, url, hosts, found["name"] or "", options, sentinel_options)


def _refuse_unknown(query: str, kind: Kind) -> None:
    known = _PARAMETERS | (_OF_SENTINELS if kind is Kind.SENTINEL else frozenset())
    for name in re.findall(r"(?:^|&)([^=&]*)", query) if query else ():
        if name not in known and not name.startswith("ssl_"):
            # What is no name may be a piece of a secret that was not percent-encoded.
            told = f"a parameter {name}" if re.fullmatch(r"[a-z_]+", name) else "a parameter"
            raise InvalidInput(f"redis.url has {told} in its query that is not known")


def _host_port(text: str, default_port: int) -> HostPort:
    found = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::([0-9]+))?", text)
    host, port = (found[1], found[2]) if found else (text, None)
    return host.strip("[]"), int(port or default_port)
