"""CMAPI as an upstream: the bytes of a batch, and the table of answers, on values alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import TooManyRequests, Unavailable
from gateway.core.ports import Answer, Refusal, Verdict
from gateway.core.usage import Choice, Count
from gateway.protocols import problem
from gateway.protocols.cmapi_request import decode_request
from gateway.upstream.answers import RETRY_AFTER_S_MAX
from gateway.upstream.cmapi import CmapiUpstream, encode, judge, route

UPSTREAM = CmapiUpstream(
    name="parent", url="https://h/api/1.0/instances/P", dedupe_horizon_ms=86_400_000, interval_s=60
)
CHOICE = Choice(counts=(Count("sessions", "1.0", 42), Count("users", "2", 10**12)))
NOT_APPLIED = b'{"key":"gateway.unavailable","message":"","arguments":["not_applied"]}'


def test_a_batch_is_an_incremental_access_request_in_fixed_order() -> None:
    assert encode(UPSTREAM, CHOICE, "DEMO") == (
        b'{"hostId":{"type":"string","value":"DEMO"},"incremental":true,"partial":false,'
        b'"borrow-interval":"0d","features":['
        b'{"name":"sessions","version":"1.0","count":42},'
        b'{"name":"users","version":"2","count":1000000000000}]}'
    )


@pytest.mark.parametrize(
    ("configured", "chosen", "expected"),
    [
        ("", "", {"type": "string", "value": "DEMO"}),
        ("USER:a@b", "", {"type": "user", "value": "a@b"}),
        ("USER:a@b", "STRING:h:1|x", {"type": "string", "value": "h:1|x"}),
        ("STRING:own", "LICENSESPRING:ann:1", {"type": "user", "value": "ann:1"}),
        ("STRING:own", "LICENSESPRING:", {"type": "string", "value": "own"}),
    ],
)
def test_the_host_is_the_batch_s_else_the_configured_else_the_instance(
    configured: str, chosen: str, expected: dict[str, str]
) -> None:
    upstream = CmapiUpstream(
        name="p", url="http://h", host=configured, dedupe_horizon_ms=0, interval_s=1
    )
    body = encode(upstream, Choice(chosen, counts=CHOICE.counts), "DEMO")
    assert json.loads(body)["hostId"] == expected
    assert decode_request(body).host.value == expected["value"]  # a parent of ours takes it


def test_a_slash_at_the_end_of_the_base_is_tolerated() -> None:
    assert UPSTREAM.endpoint == "https://h/api/1.0/instances/P/access_request"
    slashed = CmapiUpstream(name="p", url=UPSTREAM.url + "/", dedupe_horizon_ms=0, interval_s=1)
    assert slashed.endpoint == UPSTREAM.endpoint


@pytest.mark.parametrize(
    ("dedupe_ms", "expected"), [(0, 0), (60_000, 0), (86_400_000, 86_400_000 - 120_000)]
)
def test_an_id_is_not_used_up_to_the_last_moment_it_is_remembered(
    dedupe_ms: int, expected: int
) -> None:
    upstream = CmapiUpstream(name="p", url="http://h", dedupe_horizon_ms=dedupe_ms, interval_s=1)
    assert route(upstream, sender=None).horizon_ms == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (200, b'{"features":[],"statusList":[]}', Answer.GRANTED),
        (200, b'{"features":[{"name":"a","count":"3"}],"statusList":null,"new":1}', Answer.GRANTED),
        (200, b'{"requestHostId":{"type":"x"},"features":[]}', Answer.GRANTED),
        (200, b'{"statusList":[{"code":7,"name":"a","version":"1"}]}', Answer.REFUSED),
        (200, b'{"statusList":[{}]}', Answer.REFUSED),
        (200, b"", Answer.UNKNOWN),
        (200, b"<html>welcome</html>", Answer.UNKNOWN),
        (200, b"{}", Answer.UNKNOWN),
        (200, b'{"ok":true}', Answer.UNKNOWN),
        (200, b"[]", Answer.UNKNOWN),
        (200, b'{"statusList":"none"}', Answer.UNKNOWN),
        (200, b'{"statusList":[3]}', Answer.UNKNOWN),
        (200, b'{"features":' + b"[" * 5_000, Answer.UNKNOWN),
        (200, b'{"features":[],"statusList":[]', Answer.UNKNOWN),
        (200, b"\xff\xfe", Answer.UNKNOWN),
        (201, b'{"features":[],"statusList":[]}', Answer.UNKNOWN),
        (204, b"", Answer.UNKNOWN),
        (301, b"", Answer.STOPPED),
        (302, b'{"features":[],"statusList":[]}', Answer.STOPPED),
        (307, b"", Answer.STOPPED),
        (400, b"", Answer.INVALID),
        (401, b"", Answer.STOPPED),
        (403, b"", Answer.STOPPED),
        (404, b"", Answer.STOPPED),
        (405, b"", Answer.STOPPED),
        (408, b"", Answer.UNKNOWN),
        (409, b"", Answer.UNKNOWN),
        (410, b"", Answer.STOPPED),
        (413, b"", Answer.INVALID),
        (415, b"", Answer.STOPPED),
        (422, b"", Answer.INVALID),
        (425, b"", Answer.UNKNOWN),
        (429, b"", Answer.NOT_APPLIED),
        (500, NOT_APPLIED, Answer.UNKNOWN),
        (502, b"", Answer.UNKNOWN),
        (503, NOT_APPLIED, Answer.NOT_APPLIED),
        (503, b"", Answer.UNKNOWN),
        (503, NOT_APPLIED.replace(b"not_applied", b"unknown"), Answer.UNKNOWN),
        (503, NOT_APPLIED.replace(b"not_applied", b"applied_not_durable"), Answer.UNKNOWN),
        (503, NOT_APPLIED.replace(b"gateway.", b"another."), Answer.UNKNOWN),
        (503, b'{"key":"gateway.unavailable","arguments":null}', Answer.UNKNOWN),
        (504, b"", Answer.UNKNOWN),
        (599, b"", Answer.UNKNOWN),
    ],
)
def test_each_answer_has_its_row_in_the_table(status: int, body: bytes, answer: Answer) -> None:
    assert judge(status, {}, body).answer is answer


def test_our_own_refusals_are_read_as_we_write_them() -> None:
    for error, expected in (
        (Unavailable("x", "not_applied", 7), Verdict(Answer.NOT_APPLIED, "HTTP 503", 7)),
        (Unavailable("x", "unknown", 7), Verdict(Answer.UNKNOWN, "HTTP 503", 7)),
        (TooManyRequests("x", 7), Verdict(Answer.NOT_APPLIED, "HTTP 429", 7)),
    ):
        status, headers, body = problem.render(error)
        lower = {name.lower(): value for name, value in headers.items()}
        assert judge(status, lower, body) == expected


def test_a_refusal_names_the_features() -> None:
    body = json.dumps(
        {
            "features": [],
            "statusList": [
                {"code": "FEATURE_NOT_FOUND", "message": "m", "name": "a", "version": "1.0"},
                {"code": 7, "name": None, "extra": {}},
            ],
        }
    ).encode()
    verdict = judge(200, {}, body)
    assert verdict.refused == (Refusal("a", "1.0", "FEATURE_NOT_FOUND"), Refusal("", "", "7"))
    assert verdict.why == "a 1.0: FEATURE_NOT_FOUND,  : 7"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 0 "}, 0),
        ({"retry-after": "999999999"}, RETRY_AFTER_S_MAX),
        ({"retry-after": "9" * 5_000}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Sun, 22 Nov 2026 08:00:30 GMT"}, None),
        (
            {
                "retry-after": "Sun, 22 Nov 2026 08:00:30 GMT",
                "date": "Sun, 22 Nov 2026 08:00:00 GMT",
            },
            30,
        ),
    ],
)
def test_retry_after_is_honoured_within_reason(
    headers: dict[str, str], expected: int | None
) -> None:
    assert judge(429, headers, b"").retry_after_s == expected


def test_a_log_line_takes_nothing_from_a_body_but_a_plain_key() -> None:
    assert judge(401, {}, b'{"key":"gateway.unauthorized"}').why == "HTTP 401 gateway.unauthorized"
    assert judge(401, {}, b'{"key":"a secret\\n"}').why == "HTTP 401"


@given(st.integers(100, 599), st.binary(max_size=200))
def test_bytes_that_are_no_answer_are_never_a_grant(status: int, body: bytes) -> None:
    verdict = judge(status, {}, body)
    assert verdict.answer is not Answer.GRANTED


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[A-Za-z0-9._:/-]{1,128}", fullmatch=True),
            st.integers(-(10**12), 10**12).filter(bool),
        ),
        min_size=1,
        max_size=64,
        unique_by=lambda each: each[0],
    )
)
def test_what_we_encode_our_own_door_reads_back(wanted: list[tuple[str, int]]) -> None:
    sign = 1 if wanted[0][1] > 0 else -1
    counts = tuple(Count(name, "1.0", sign * abs(units)) for name, units in wanted)
    request = decode_request(encode(UPSTREAM, Choice(counts=counts), "DEMO"))
    assert request.host.canonical == "STRING:DEMO"
    assert (request.incremental, request.partial, request.interval_s) == (True, False, 0)
    assert [(want.name, want.count) for want in request.wants] == [
        (count.name, count.units) for count in counts
    ]
