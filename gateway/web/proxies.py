"""Whom a request comes from when proxies pass it on: what they say of it, if they are trusted.

Decided here: `X-Forwarded-For` and `X-Forwarded-Proto` are believed from a peer that is named in
`server.trusted_proxies`, and from nobody else. The client is the right-most address that is not
named there: what stands left of it was written by somebody for whom nobody vouches. Not read are
`X-Forwarded-Host`, since no answer depends on a name of ours, and `Forwarded` (RFC 7239): a proxy
that writes one kind of header passes the other one on as its client wrote it, so that to believe
both is to let clients choose. Source: INTERFACE 2, RELIABILITY 3 (6).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.core.errors import InvalidInput

PROXIES_MAX: Final = 256  # addresses and networks
HOPS_MAX: Final = 16  # addresses of a request that are looked at; proxies in a row are few

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_SETTING: Final = "server.trusted_proxies"
_FOR: Final = b"x-forwarded-for"
_PROTO: Final = b"x-forwarded-proto"
_SCHEMES: Final = {b"http": "http", b"https": "https"}
_PORTED: Final = re.compile(r"\[([^\]]+)\](?::[0-9]{1,5})?|([^:]+):[0-9]{1,5}")
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")


def trusted_networks(names: Sequence[str]) -> tuple[Network, ...]:
    """Read `server.trusted_proxies`: addresses and networks, such as 10.0.0.1 or fd00::/8.

    Raises InvalidInput with a sentence for each that is neither, and for one that is everybody.
    """
    problems = []
    networks = []
    if len(names) > PROXIES_MAX:
        problems.append(f"{_SETTING} has {len(names)} entries; expected at most {PROXIES_MAX}")
    for name in names[:PROXIES_MAX]:
        try:
            network = None if name == "*" else ipaddress.ip_network(name)
        except ValueError:
            problems.append(
                f"{_SETTING} has {name[:80]!r}; expected an address or a network, such as 10.0.0.1,"
                " 10.0.0.0/8 or fd00::/8"
            )
            continue
        if network is None or network.prefixlen == 0:
            problems.append(
                f"{_SETTING} has {name!r}: then every client could choose the address it is taken"
                " for; name the addresses of your proxies"
            )
        elif network.version == 6 and network.overlaps(_MAPPED):
            problems.append(f"{_SETTING} has {name!r}; write IPv4 networks as such")
        else:
            networks.append(network)
    if problems:
        raise InvalidInput(*problems)
    return tuple(networks)


def behind_proxies(app: ASGIApp, trusted: tuple[Network, ...]) -> ASGIApp:
    """Have `app` see clients where it would see proxies that are `trusted`; without any, itself."""
    return _BehindProxies(app, trusted) if trusted else app


@dataclass(frozen=True, slots=True)
class _BehindProxies:
    app: ASGIApp
    trusted: tuple[Network, ...]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = _address(scope["client"][0]) if scope.get("client") else None
        if peer is not None and is_one_of(peer, self.trusted):
            # A copy, and a shallow one: the scope is the server's, its state the connection's.
            scope = {**scope, **_told(scope["headers"], peer, self.trusted)}
        await self.app(scope, receive, send)


def _told(
    headers: Iterable[tuple[bytes, bytes]], peer: Address, trusted: tuple[Network, ...]
) -> Scope:
    """Give what of a scope is another than its server says, as told by the proxy `peer`."""
    chain, schemes = [], []
    for name, value in headers:
        if name == _FOR:
            chain.append(value)
        elif name == _PROTO:
            schemes.append(value)
    told: Scope = {}
    if chain:
        told["client"] = (str(client_of(peer, b",".join(chain), trusted)), 0)  # its port is unknown
    if schemes:
        last = schemes[-1].rpartition(b",")[2].strip().lower()
        if last in _SCHEMES:
            told["scheme"] = _SCHEMES[last]
    return told


def client_of(peer: Address, chain: bytes, trusted: tuple[Network, ...]) -> Address:
    """Follow a chain of `X-Forwarded-For` from its end for as long as who wrote it is trusted.

    It ends with the first address that is not, or before anything that is no address: then the one
    who wrote that is all that is known. `peer`, the last proxy, is not in the chain. Pure.
    """
    client = peer
    for text in reversed(chain.rsplit(b",", HOPS_MAX)[-HOPS_MAX:]):
        if not is_one_of(client, trusted):
            break
        named = _forwarded(text)
        if named is None:
            break
        client = named
    return client


def is_one_of(address: Address, networks: tuple[Network, ...]) -> bool:
    """Say whether an address is in one of some networks. Pure."""
    return any(address in network for network in networks)


def _forwarded(text: bytes) -> Address | None:
    """Read an address as proxies write it, some with its port: 1.2.3.4:5, [::1]:5."""
    said = text.decode("latin-1").strip()
    if ported := _PORTED.fullmatch(said):
        said = ported[1] or ported[2]
    # The zone of an address means something where it was written only, and may be any text.
    return None if "%" in said else _address(said)


def _address(text: str) -> Address | None:
    """Read an address; an IPv4 one also where it stands for itself within IPv6."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
