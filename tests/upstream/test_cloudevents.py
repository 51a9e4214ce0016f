"""CloudEvents as an upstream: the bytes of a batch, and the table of answers, on values alone."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import TooManyRequests, Unavailable
from gateway.core.floating import NOBODY
from gateway.core.model import UNITS_MAX, Line, Model
from gateway.core.ports import Answer, Verdict
from gateway.core.usage import BATCH_ROWS_MAX, Choice, Row
from gateway.protocols import problem
from gateway.upstream import cmapi
from gateway.upstream.answers import RETRY_AFTER_S_MAX
from gateway.upstream.cloudevents import (
    EVENTS_MAX,
    CloudeventsUpstream,
    encode,
    events,
    judge,
    route,
)

LINES = {
    line: Line(
        id=line, feature=feature, version=version, model=Model.METERED, count=None, capacity=9
    )
    for line, feature, version in [("L1", "sessions", "1.0"), ("L2", "pages", "2")]
}
HOUR = 494_698  # 2026-06-08T10:00Z
ROWS = (Row("L1", HOUR, "USER:é@b", 42), Row("L2", HOUR + 1, "", -(10**12)))
NOT_APPLIED = b'{"key":"gateway.unavailable","message":"","arguments":["not_applied"]}'


def configured(dedupe_ms: int = 86_400_000) -> CloudeventsUpstream:
    return CloudeventsUpstream(
        name="meter", url="http://h/events", dedupe_horizon_ms=dedupe_ms, interval_s=60
    )


def test_a_batch_is_an_array_of_events_in_fixed_order() -> None:
    assert encode(Choice(rows=ROWS), "DEMO", "b1", LINES) == (
        b'[{"specversion":"1.0","type":"cmapi-gateway.usage.v1","source":"/instances/DEMO",'
        b'"id":"b1/0","subject":"USER:\xc3\xa9@b","time":"2026-06-08T10:00:00.000Z",'
        b'"datacontenttype":"application/json","data":{"instance":"DEMO","line":"L1",'
        b'"feature":"sessions","version":"1.0","units":42,"hour":"2026-06-08T10:00:00.000Z",'
        b'"host":"USER:\xc3\xa9@b"}},'
        b'{"specversion":"1.0","type":"cmapi-gateway.usage.v1","source":"/instances/DEMO",'
        b'"id":"b1/1","subject":"DEMO","time":"2026-06-08T11:00:00.000Z",'
        b'"datacontenttype":"application/json","data":{"instance":"DEMO","line":"L2",'
        b'"feature":"pages","version":"2","units":-1000000000000,'
        b'"hour":"2026-06-08T11:00:00.000Z"}}]'
    )


def test_events_are_what_the_batch_is_made_of() -> None:
    found = events(ROWS, "DEMO", "b1", LINES)
    assert [event.id for event in found] == ["b1/0", "b1/1"]
    assert [event.data.units for event in found] == [42, -(10**12)]


def test_who_consumed_without_saying_who_it_was_is_no_subject() -> None:
    (event,) = events([Row("L1", HOUR, NOBODY.canonical, 3)], "DEMO", "b1", LINES)
    assert (event.subject, event.data.host) == ("DEMO", "")


def test_rows_that_net_to_nothing_are_events_all_the_same() -> None:
    rows = (Row("L1", HOUR, "", 3), Row("L1", HOUR + 1, "", -3))
    body = encode(Choice(rows=rows), "DEMO", "b1", LINES)
    assert [event["data"]["units"] for event in json.loads(body)] == [3, -3]


@given(
    st.lists(
        st.builds(
            Row,
            st.sampled_from(sorted(LINES)),
            st.integers(0, 1_000_000),
            st.one_of(
                st.just(""),
                st.text(st.characters(exclude_categories=["C"]), min_size=1).map(
                    lambda value: f"STRING:{value}"
                ),
            ),
            st.integers(-UNITS_MAX, UNITS_MAX).filter(bool),
        ),
        max_size=20,
    )
)
def test_a_batch_read_back_is_its_rows(rows: list[Row]) -> None:
    choice = Choice(rows=tuple(rows))
    body = encode(choice, "DEMO", "b1", LINES)
    assert body == encode(choice, "DEMO", "b1", dict(reversed(LINES.items())))
    found = json.loads(body)
    for event in found:
        assert event["time"] == event["data"]["hour"]
        assert event["subject"] == event["data"].get("host", "DEMO")
    assert len({(event["source"], event["id"]) for event in found}) == len(rows)
    assert rows == [
        Row(
            data["line"],
            int(datetime.fromisoformat(data["hour"]).timestamp()) // 3600,
            data.get("host", ""),
            data["units"],
        )
        for data in (event["data"] for event in found)
    ]


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (200, b"", Answer.GRANTED),
        (200, b"<html>", Answer.GRANTED),
        (202, b'{"accepted":2}', Answer.GRANTED),
        (204, b"", Answer.GRANTED),
        (299, b"", Answer.GRANTED),
        (199, b"", Answer.UNKNOWN),
        (300, b"", Answer.STOPPED),
        (302, b"", Answer.STOPPED),
        (308, b"", Answer.STOPPED),
        (400, b"", Answer.INVALID),
        (401, b"", Answer.STOPPED),
        (403, b"", Answer.STOPPED),
        (404, b"", Answer.STOPPED),
        (408, b"", Answer.UNKNOWN),
        (409, b"", Answer.UNKNOWN),
        (413, b"", Answer.INVALID),
        (415, b"", Answer.STOPPED),
        (422, b"", Answer.INVALID),
        (425, b"", Answer.UNKNOWN),
        (429, b"", Answer.NOT_APPLIED),
        (500, NOT_APPLIED, Answer.UNKNOWN),
        (502, b"", Answer.UNKNOWN),
        (503, b"", Answer.UNKNOWN),
        (503, NOT_APPLIED, Answer.NOT_APPLIED),
        (503, NOT_APPLIED.replace(b"not_applied", b"unknown"), Answer.UNKNOWN),
        (504, b"", Answer.UNKNOWN),
        (599, b"", Answer.UNKNOWN),
    ],
)
def test_each_answer_has_its_row_in_the_table(status: int, body: bytes, answer: Answer) -> None:
    assert judge(status, {}, body).answer is answer


def test_the_wait_that_a_collector_asks_for_is_told_within_reason() -> None:
    assert judge(429, {"retry-after": "7"}, b"").retry_after_s == 7
    assert judge(429, {"retry-after": "999999"}, b"").retry_after_s == RETRY_AFTER_S_MAX
    assert judge(503, {"retry-after": "9"}, NOT_APPLIED).retry_after_s == 9


def test_a_gateway_of_ours_in_front_of_a_collector_is_understood() -> None:
    for error, expected in (
        (Unavailable("x", "not_applied", 7), Verdict(Answer.NOT_APPLIED, "HTTP 503", 7)),
        (Unavailable("x", "unknown", 7), Verdict(Answer.UNKNOWN, "HTTP 503", 7)),
        (TooManyRequests("x", 7), Verdict(Answer.NOT_APPLIED, "HTTP 429", 7)),
    ):
        status, headers, body = problem.render(error)
        lower = {name.lower(): value for name, value in headers.items()}
        assert judge(status, lower, body) == expected


@given(st.integers(100, 599), st.binary(max_size=200))
def test_only_a_2xx_is_a_grant(status: int, body: bytes) -> None:
    verdict = judge(status, {}, body)
    assert (verdict.answer is Answer.GRANTED) is (200 <= status < 300)


@given(st.integers(300, 599), st.binary(max_size=200), st.text(max_size=9))
def test_what_is_no_success_means_the_same_whatever_the_kind(
    status: int, body: bytes, wait: str
) -> None:
    headers = {"retry-after": wait}
    assert judge(status, headers, body) == cmapi.judge(status, headers, body)


def test_rows_go_each_by_itself_and_a_bounded_number_at_once() -> None:
    found = route(configured(), sender=None)  # type: ignore[arg-type]
    assert (found.name, found.by_row, found.rows_max) == ("meter", True, EVENTS_MAX)
    assert EVENTS_MAX <= BATCH_ROWS_MAX
    assert found.encode(Choice(rows=ROWS), "DEMO", "b1", LINES) == encode(
        Choice(rows=ROWS), "DEMO", "b1", LINES
    )


@pytest.mark.parametrize(
    ("dedupe_ms", "expected"), [(0, 0), (120_000, 0), (86_400_000, 86_400_000 - 120_000)]
)
def test_an_id_is_not_used_up_to_the_last_moment_it_is_remembered(
    dedupe_ms: int, expected: int
) -> None:
    found = route(configured(dedupe_ms), sender=None)  # type: ignore[arg-type]
    assert found.horizon_ms == expected
