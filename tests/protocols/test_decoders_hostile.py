"""Every decoder of a protocol under hostile bytes: it gives what it reads, or an error of ours.

A decoder that is added needs a line here: a test looks for those that have none. What a request
that is let in means is each decoder's own tests'; access requests are held against an oracle.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gateway.protocols
from gateway.core.errors import BadRequest, GatewayError
from gateway.core.floating_asks import Operation
from gateway.core.model import Catalogue
from gateway.core.reports_asked import View
from gateway.protocols import (
    cmapi_admin,
    cmapi_batch,
    cmapi_clients,
    cmapi_features,
    cmapi_request,
    cmapi_server,
    licensespring_members,
    licensespring_requests,
    licensespring_sync,
    objects,
    queries,
    usage_report,
)
from gateway.protocols.licensespring_problem import FloatingRefused
from gateway.protocols.problem import TABLE
from tests.faults import hostile_doors, hostile_oracle, hostile_values

PRESENT: Final = cmapi_server.policies_of(Catalogue(id="I"), 600)
DRAWS: Final = st.integers(0, 2**32).map(Random)
CALM = settings(max_examples=60, derandomize=True, database=None, deadline=1_000)
MANY = settings(CALM, max_examples=600)


def _of_operations(read: Callable[..., Any], *before: str) -> Callable[[bytes], None]:
    def each(body: bytes) -> None:
        for operation in Operation:
            with suppress(GatewayError):
                read(operation, *before, body)

    return each


BODIES: Final[dict[str, Callable[[bytes], Any]]] = {
    "decode_request": cmapi_request.decode_request,
    "decode_preview": cmapi_request.decode_preview,
    "decode_login": cmapi_admin.decode_login,
    "decode_change": lambda body: cmapi_server.decode_change(body, PRESENT),
    "split_body": cmapi_batch.split_body,
    "split_requests": lambda body: cmapi_batch.split_requests(msgspec.Raw(body)),
    "LineReader.read": lambda body: cmapi_batch.LineReader(65_536).read(body),
    "read_object": objects.read_object,
    "read_members": licensespring_members.read_members,
    "read_v1": _of_operations(licensespring_requests.read_v1),
    "read_v2": _of_operations(licensespring_requests.read_v2, "77"),
    "read_feature": licensespring_requests.read_feature,
    "read_added_v2": licensespring_requests.read_added_v2,
    "read_login": licensespring_requests.read_login,
    "read_sync": licensespring_sync.read_sync,
}
QUERIES: Final[dict[str, Callable[[bytes], Any]]] = {
    "read_query": lambda query: queries.read_query(query, ("a", "limit")),
    "decode_upload": cmapi_admin.decode_upload,
    "decode_asking": cmapi_clients.decode_asking,
    "decode_active_only": cmapi_features.decode_active_only,
    "decode_page": cmapi_features.decode_page,
    "decode_query": lambda query: [usage_report.decode_query(query, view) for view in View],
    "decode_capacity_query": usage_report.decode_capacity_query,
    "read_choice": licensespring_requests.read_choice,
    "read_filter": licensespring_requests.read_filter,
    "read_added_v1": licensespring_requests.read_added_v1,
}
WORDS: Final[dict[str, Callable[[str], Any]]] = {
    "decode_number": cmapi_clients.decode_number,
    "read_id": licensespring_requests.read_id,
    "read_basic": licensespring_requests.read_basic,
}
# What reads no request, but what we wrote: an echo, and backups, whose tests are their own.
ELSEWHERE: Final = {"read_echo", "read_frames"}
HONEST: Final = {
    "product": "PROD", "user": "u", "username": "u", "feature": "pages", "consumptions": 1,
    "license_id": 77,
    "borrowed_until": "2099-01-01T00:00:00Z", "allow_overages": True, "max_overages": 5,
    "password": "x" * 9,
    "license_key": "K", "enabled": True, "hours": 1, "minutes": 0, "correlationId": "c",
    "hostId": {},
}  # fmt: skip


def _odd_body(draw: Random) -> bytes:
    if draw.randrange(3) == 0:
        return hostile_doors.odd(draw)
    said = HONEST | {draw.choice(tuple(HONEST)): hostile_values.value(draw)}
    body = json.dumps(said).encode()
    return hostile_values.spoiled(draw, body) if draw.randrange(2) else body


def _odd_query(draw: Random) -> bytes:
    names = (
        "limit",
        "after",
        "product",
        "license_id",
        "period",
        "from",
        "to",
        "by",
        "feature",
        "a",
    )
    pairs = []
    for _ in range(draw.choice((1, 2, 20))):
        value = draw.choice(
            (hostile_values.text(draw).encode(), draw.randbytes(6), b"%", b"%ff", b"1")
        )
        pairs.append(draw.choice(names).encode() + draw.choice((b"=", b"", b"==", b";")) + value)
    return draw.choice((b"&", b"&&", b";")).join(pairs)


def _refused_at_most(read: Callable[[Any], Any], data: Any) -> None:
    told = None
    try:
        read(data)
    except GatewayError as error:
        told = error
    if told is not None:
        assert type(told) in {*TABLE, FloatingRefused}  # each has its answer
        assert len(told.message) < 2_000  # it may not send back what was sent


@pytest.mark.parametrize("name", BODIES)
def test_a_body_is_read_or_refused(name: str) -> None:
    @CALM
    @given(st.binary(max_size=40) | DRAWS.map(_odd_body))
    def read(body: bytes) -> None:
        _refused_at_most(BODIES[name], body)

    read()


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_is_read_or_refused(name: str) -> None:
    @CALM
    @given(st.binary(max_size=40) | DRAWS.map(_odd_query))
    def read(query: bytes) -> None:
        _refused_at_most(QUERIES[name], query)

    read()


@pytest.mark.parametrize("name", WORDS)
def test_a_word_of_a_path_or_a_header_is_read_or_refused(name: str) -> None:
    latin = st.text(st.characters(max_codepoint=255), max_size=40)  # as headers are decoded

    @CALM
    @given(latin | st.sampled_from(hostile_values.TEXTS) | latin.map(lambda text: "Basic " + text))
    def read(word: str) -> None:
        _refused_at_most(WORDS[name], word)

    read()


@MANY
@given(DRAWS)
def test_an_access_request_is_what_the_oracle_says_it_is(draw: Random) -> None:
    """Two readers, written apart from the same page, agree about what is one."""
    body = hostile_doors.odd(draw)
    verdict = hostile_oracle.request_verdict(body)
    try:
        cmapi_request.decode_request(body)
        told = 200
    except BadRequest:
        told = 400
    assert verdict in (None, told), body


def test_no_decoder_is_left_out() -> None:
    """A function that reads has a name that says so."""
    found = set()
    for file in Path(gateway.protocols.__file__).parent.glob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                found.add(node.name)
    readers = {each for each in found if each.startswith(("decode_", "read_", "split_"))}
    assert readers - ELSEWHERE == {
        each for each in {**BODIES, **QUERIES, **WORDS} if "." not in each
    }
