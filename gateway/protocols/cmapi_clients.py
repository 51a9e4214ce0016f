"""CMAPI's clients on the wire: who asked an instance, and what a dropped one has returned.

Decided here: the members of a client, in the order of the reference, which words stand where the
public record has none, and how a page of clients is asked for. What a page begins after names a
moment and a number, never a host: addresses are logged. Not decided here: who is listed
(service/clients.py). Source: protocols/cmapi.md 3.4.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from gateway.core.errors import BadRequest
from gateway.core.moments import iso
from gateway.core.numbers import NUMBER_BITS, client_number
from gateway.protocols.cmapi_answer import PERMANENT
from gateway.protocols.cmapi_wire import Expiry, Moment
from gateway.protocols.queries import read_query

CLIENTS_DEFAULT: Final = 1_000  # of a page
CLIENTS_MAX: Final = 10_000
_SERVER_HOST_TYPE: Final = "STRING"
_LIMIT: Final = re.compile(r"[0-9]{1,5}")
_AFTER: Final = re.compile(r"([0-9]{1,16})-([0-9]{1,16})")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,15}")

Number = Annotated[int, Meta(ge=1, le=2**NUMBER_BITS - 1)]


class HostId(msgspec.Struct, frozen=True, rename="camel"):
    """A host as the reads of administration name it."""

    hostid_type: Annotated[str, Meta(description="In upper case, such as `STRING`.")]
    hostid_value: str


class Client(msgspec.Struct, frozen=True, rename="camel"):
    """A host that asked for something, or holds something."""

    id: Annotated[
        Number,
        Meta(description="Follows from the host alone: the same at every instance and replica."),
    ]
    server_hostid: Annotated[HostId, Meta(description="Type `STRING`, the id of the instance.")]
    request_hostid: HostId
    hostid: HostId
    host_type: Annotated[Literal["CLIENT"], Meta(description="Every host is a client here.")]
    machine_type: Annotated[Literal["UNKNOWN"], Meta(description="Requests do not tell it.")]
    correlation_id: Annotated[str, Meta(description="Always empty: it is not kept.")]
    collected_host_ids: Annotated[
        tuple[HostId, ...], Meta(max_length=0, description="Always empty: none are collected.")
    ]
    trusted: Annotated[bool, Meta(description="Always true: every request is authenticated.")]
    request_operation: Literal["REQUEST"]
    served_status: Literal["NORMAL"]
    update_time: Annotated[
        Moment,
        Meta(description="When it last asked; of one dropped since, when it last consumed."),
    ]
    expiry: Annotated[
        Expiry,
        Meta(
            description="When the last of what it holds lapses; `permanent` when that does not"
            " lapse; `updateTime` when it holds nothing."
        ),
    ]


def client_of(host: str, instance: str, *, updated_ms: int, expires_ms: int | None) -> Client:
    """Give the client that a host is. Pure.

    `host` is in canonical form, `TYPE:value`. `updated_ms` is its last request, `expires_ms` the
    latest lapse of what it holds; None: that does not lapse. For a host that holds nothing the
    caller gives `updated_ms` for both.
    """
    kind, _, value = host.partition(":")
    named = HostId(kind, value)
    return Client(
        id=client_number(host),
        server_hostid=HostId(_SERVER_HOST_TYPE, instance),
        request_hostid=named,
        hostid=named,
        host_type="CLIENT",
        machine_type="UNKNOWN",
        correlation_id="",
        collected_host_ids=(),
        trusted=True,
        request_operation="REQUEST",
        served_status="NORMAL",
        update_time=iso(updated_ms),
        expiry=PERMANENT if expires_ms is None else iso(expires_ms),
    )


class Returned(msgspec.Struct, frozen=True, rename="camel"):
    """What a dropped client gave back of one feature line."""

    feature_id: Annotated[str, Meta(description="The id of the line.")]
    feature_name: str
    feature_version: str
    count: Annotated[int, Meta(ge=1)]


class Dropped(msgspec.Struct, frozen=True):
    """The answer to dropping a client: as it was, and what it gave back. Ours."""

    client: Client
    returned: tuple[Returned, ...]


class Asking(msgspec.Struct, frozen=True):
    """The query of a page of clients. `after` is the moment of the last request, in ms, and the
    number of the client that the page before ended with; None: the first page.
    """

    limit: int = CLIENTS_DEFAULT
    after: tuple[int, int] | None = None


def decode_asking(query: bytes) -> Asking:
    """Read `limit` and `after`. Raises BadRequest. Pure."""
    found = read_query(query, ("limit", "after"))
    limit = found.get("limit", str(CLIENTS_DEFAULT))
    if not _LIMIT.fullmatch(limit) or not 1 <= int(limit) <= CLIENTS_MAX:
        raise BadRequest(f"limit must be a whole number from 1 to {CLIENTS_MAX}", "limit")
    if "after" not in found:
        return Asking(int(limit))
    after = _AFTER.fullmatch(found["after"])
    if after is None:
        raise BadRequest("after must be as the page before gave it", "after")
    return Asking(int(limit), (int(after[1]), int(after[2])))


def next_link(limit: int, after: tuple[int, int]) -> str:
    """Give the `Link` header to the page after this one (RFC 8288).

    The reference is a query alone, so that it keeps whatever form of path was asked. Pure.
    """
    return f'<?limit={limit}&after={after[0]}-{after[1]}>; rel="next"'


def decode_number(text: str) -> int | None:
    """Read the number of a client in a path; None: it is none. Pure."""
    return int(text) if _NUMBER.fullmatch(text) else None


def encode_clients(clients: list[Client]) -> bytes:
    """Write a page of clients: an array."""
    return msgspec.json.encode(clients)


def encode_dropped(dropped: Dropped) -> bytes:
    """Write the answer to a drop."""
    return msgspec.json.encode(dropped)
