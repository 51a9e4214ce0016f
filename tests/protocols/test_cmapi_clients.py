"""A client on the wire has the members of the reference, in its order; a query asks for a page.

Source: protocols/cmapi.md 3.4.
"""

from __future__ import annotations

import json

import msgspec
import pytest

from gateway.core.errors import BadRequest
from gateway.core.numbers import client_number
from gateway.protocols.cmapi_clients import (
    CLIENTS_DEFAULT,
    CLIENTS_MAX,
    Asking,
    client_of,
    decode_asking,
    decode_number,
    encode_clients,
    next_link,
)

HOST = "STRING:plant-7:gateway"
ASKED_MS, LAPSES_MS = 1_772_359_200_000, 1_798_761_599_000


def test_a_client_is_the_documented_one_in_the_documented_order() -> None:
    client = client_of(HOST, "gateway-1", updated_ms=ASKED_MS, expires_ms=LAPSES_MS)
    host = {"hostidType": "STRING", "hostidValue": "plant-7:gateway"}
    (said,) = json.loads(encode_clients([client]))
    expected = {
        "id": client_number(HOST),
        "serverHostid": {"hostidType": "STRING", "hostidValue": "gateway-1"},
        "requestHostid": host,
        "hostid": host,
        "hostType": "CLIENT",
        "machineType": "UNKNOWN",
        "correlationId": "",
        "collectedHostIds": [],
        "trusted": True,
        "requestOperation": "REQUEST",
        "servedStatus": "NORMAL",
        "updateTime": "2026-03-01T10:00:00.000Z",
        "expiry": "2026-12-31T23:59:59.000Z",
    }
    assert list(said.items()) == list(expected.items())


def test_what_does_not_lapse_is_permanent() -> None:
    client = client_of(HOST, "gateway-1", updated_ms=ASKED_MS, expires_ms=None)
    assert client.expiry == "permanent"


def test_every_client_is_what_its_own_type_says() -> None:
    client = client_of("USER:é@example.com", "i", updated_ms=ASKED_MS, expires_ms=None)
    written = msgspec.json.encode(client)
    assert msgspec.json.decode(written, type=type(client)) == client


def test_a_page_has_a_default_and_bounds() -> None:
    assert decode_asking(b"") == Asking(CLIENTS_DEFAULT, None)
    assert decode_asking(b"limit=1&x=y&x=z") == Asking(1, None)
    for nothing in (b"&", b"x", b"=", b"=x", b"&&x&", b"x="):
        assert decode_asking(nothing) == Asking(CLIENTS_DEFAULT, None)
        assert decode_asking(b"limit=1&" + nothing) == Asking(1, None)
    asked = f"limit={CLIENTS_MAX}&after={ASKED_MS}-7".encode()
    assert decode_asking(asked) == Asking(CLIENTS_MAX, (ASKED_MS, 7))


@pytest.mark.parametrize(
    ("query", "member"),
    [
        (b"limit=0", "limit"),
        (b"limit=10001", "limit"),
        (b"limit=", "limit"),
        (b"limit=-1", "limit"),
        (b"limit=1.0", "limit"),
        (b"limit=%D9%A1", "limit"),
        (b"limit=1&limit=1", "limit"),
        (b"limit=" + b"9" * 99, "limit"),
        (b"after=", "after"),
        (b"after=1", "after"),
        (b"after=1-", "after"),
        (b"after=STRING:h1", "after"),
        (b"after=1-2-3", "after"),
        (b"after=1-2%0A", "after"),
        (b"after=1-" + b"9" * 17, "after"),
        (b"limit", "limit"),
        (b"after&limit=1", "after"),
        (b"x=%FF", "query"),
        (b"\xff=1", "query"),
        (b"x=" + b"y" * 3_000, "query"),
        (b"&".join(b"x%d=1" % number for number in range(17)), "query"),
    ],
    ids=range(21),
)
def test_a_query_that_asks_for_no_page_is_refused_by_name(query: bytes, member: str) -> None:
    with pytest.raises(BadRequest) as refused:
        decode_asking(query)
    assert refused.value.arguments == (member,)


def test_the_next_page_is_asked_for_by_what_the_link_says() -> None:
    link = next_link(10, (ASKED_MS, 7))
    assert link == f'<?limit=10&after={ASKED_MS}-7>; rel="next"'
    assert decode_asking(link[2 : link.index(">")].encode()) == Asking(10, (ASKED_MS, 7))


@pytest.mark.parametrize("text", ["", "0", "01", "-1", "1.0", "h1", "9" * 17, "1\n", "١"])
def test_what_is_no_number_is_none(text: str) -> None:
    assert decode_number(text) is None


def test_a_number_is_read_as_it_is_written() -> None:
    assert decode_number(str(client_number(HOST))) == client_number(HOST)
