"""CloudEvents as an upstream: each usage row an event, a batch as JSON, and the answers. Pure.

Decided here: what an event says, the bytes of a batch, and that any 2xx takes all of it. Not
decided here: the other answers (answers.py), what is then done (delivery.py), the connection and
the token (sender.py). Collectors deduplicate by `source` and `id`: both follow from the sealed
batch, so the same batch is the same events however often it is sent.
Source: INTERFACE 4, DESIGN 5, CloudEvents 1.0 (JSON format, section 4: batches).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from gateway.core.floating import NOBODY
from gateway.core.model import Line
from gateway.core.moments import iso
from gateway.core.ports import Answer, Route, Sender, Verdict
from gateway.core.usage import Choice, Row
from gateway.upstream.answers import horizon_ms, judge_failure

MEDIA_TYPE: Final = "application/cloudevents-batch+json"
EVENTS_MAX: Final = 500  # in one batch, some 250 kB: what collectors take in one request
HOUR_MS: Final = 3_600_000


class CloudeventsUpstream(msgspec.Struct, frozen=True, kw_only=True):
    """A collector of events, as configured; its token is not in here.

    `url` is where batches are posted. `dedupe_horizon_ms` is how long the collector remembers an
    event by source and id; 0: it does not.
    """

    name: str
    url: str
    dedupe_horizon_ms: int
    interval_s: float
    timeout_s: float = 30.0


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an event tells: units of one line in the hour that begins at `hour`.

    `units` are never 0; below 0 more was undone than used. `host` is TYPE:value, absent where the
    upstream is told no hosts and where nobody said who it was.
    """

    instance: str
    line: str
    feature: str
    version: str
    units: int
    hour: str
    host: str = ""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A usage event with its envelope; encoded in the order of the members."""

    specversion: str = "1.0"
    type: str = "cmapi-gateway.usage.v1"
    source: str
    id: str
    subject: str
    time: str
    datacontenttype: str = "application/json"
    data: Usage


def route(upstream: CloudeventsUpstream, sender: Sender) -> Route:
    """Give the forwarder's view of this upstream."""
    return Route(
        name=upstream.name,
        sender=sender,
        encode=encode,
        interval_s=upstream.interval_s,
        # Reading the token and posting have a time-out each.
        horizon_ms=horizon_ms(upstream.dedupe_horizon_ms, 2 * upstream.timeout_s),
        rows_max=EVENTS_MAX,
        by_row=True,
    )


def encode(choice: Choice, instance: str, batch_id: str, lines: Mapping[str, Line]) -> bytes:
    """Write the rows of a choice as a JSON batch; the same arguments give the same bytes."""
    return msgspec.json.encode(events(choice.rows, instance, batch_id, lines))


def events(
    rows: Iterable[Row], instance: str, batch_id: str, lines: Mapping[str, Line]
) -> list[Event]:
    """Make an event of each row, in their order; `lines` has the lines of all rows.

    An event's id is the batch's and the number of the row in it, from 0.
    """
    return [
        _event(row, lines[row.line], instance, f"{batch_id}/{number}")
        for number, row in enumerate(rows)
    ]


def judge(status: int, headers: Mapping[str, str], body: bytes) -> Verdict:
    """Say what an answer means; header names are lower case. Never raises.

    Any 2xx has taken the whole batch: collectors answer 200, 202 or 204, with whatever body.
    """
    if 200 <= status < 300:
        return Verdict(Answer.GRANTED)
    return judge_failure(status, headers, body)


def _event(row: Row, line: Line, instance: str, event_id: str) -> Event:
    hour = iso(row.hour * HOUR_MS)
    host = "" if row.host == NOBODY.canonical else row.host
    return Event(
        source=f"/instances/{instance}",
        id=event_id,
        subject=host or instance,
        time=hour,
        data=Usage(
            instance=instance,
            line=row.line,
            feature=line.feature,
            version=line.version,
            units=row.units,
            hour=hour,
            host=host,
        ),
    )
