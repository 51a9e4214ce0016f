"""Which protocol a connection speaks, and HTTP/2 as Hypercorn does with less patience.

Decided here: that HTTP/2 is agreed under TLS or begun in the clear; that a body which goes on after
its answer ends one stream and not those beside it; that who sends many frames and asks for little
is sent away. Not decided here: HTTP/1 (http1.py), how long one may be silent (connection.py).
Source: RFC 9113 3.1, 8.1 and 10.5.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final, TypeVar

import h2.events
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from hypercorn.events import Event, RawData
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import StreamClosed
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H2ProtocolAssumedError

from gateway.web.http1 import Http1

NOISE_MAX: Final = 1_000  # frames that ask for nothing, more than were made good
CALM: Final = 8  # of them are made good by a request that was answered
UPDATE_BYTES_MIN: Final = 1_024  # by which who takes an answer lets us send more, or it is noise

_UNHEARD: Final = (
    h2.events.PingReceived,  # answered by h2 itself
    h2.events.PriorityUpdated,
    h2.events.UnknownFrameReceived,
)
_NOISE: Final = (*_UNHEARD, h2.events.RemoteSettingsChanged, h2.events.StreamReset)

_Codec = TypeVar("_Codec", Http1, H2Protocol)


class TooNoisy(Exception):
    """A client sends frame after frame and asks for little."""


class Codecs(ProtocolWrapper):
    """What is spoken on a connection: HTTP/1 until HTTP/2 begins."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        agreed = isinstance(self.protocol, H2Protocol)
        self.protocol = self._made(Http2) if agreed else self._made(Http1)

    async def handle(self, event: Event) -> None:
        """Take what came. Raises TooNoisy, and what the codecs stumble over."""
        try:
            await self.protocol.handle(event)
        except H2ProtocolAssumedError as begun:
            self.protocol = self._made(Http2)
            await self.protocol.initiate()
            await self.protocol.handle(RawData(begun.data))

    def _made(self, kind: type[_Codec]) -> _Codec:
        return kind(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.state,
            self.ssl,
            self.client,
            self.server,
            self.send,
        )


class Http2(H2Protocol):
    """HTTP/2 in which streams end alone, and noise is bounded. Priorities are not heard."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._noise = 0

    async def stream_send(self, event: StreamEvent) -> None:
        """Send a part of an answer; its end, if its client waited for it, makes up for noise."""
        if isinstance(event, StreamClosed) and event.stream_id in self.streams:
            self._noise = max(0, self._noise - CALM)
        await super().stream_send(event)

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        for event in events:
            if _is_noise(event):
                self._noise += 1
                if self._noise > NOISE_MAX:
                    self.connection.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
                    await self._flush()
                    raise TooNoisy
            if isinstance(event, _UNHEARD):
                continue
            if isinstance(event, h2.events.DataReceived) and event.stream_id not in self.streams:
                self._end_answered(event)
                continue
            await super()._handle_events([event])
        await self._flush()

    def _end_answered(self, event: h2.events.DataReceived) -> None:
        """Want no more of a body whose request was answered without it."""
        with suppress(ProtocolError):  # its client has ended it by now
            self.connection.reset_stream(event.stream_id, ErrorCodes.NO_ERROR)
        # What the connection may carry is given back; of the stream nothing is wanted.
        self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)


def _is_noise(event: h2.events.Event) -> bool:
    if isinstance(event, h2.events.WindowUpdated):
        return event.delta < UPDATE_BYTES_MIN
    if isinstance(event, h2.events.DataReceived):
        return not event.data and not event.stream_ended
    return isinstance(event, _NOISE)
