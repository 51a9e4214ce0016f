"""A request and its answer, when the answer is there before the request has ended.

Decided here: that what is still to come of a body is let in before the answer ends, within bounds,
and thrown away. A connection that is closed while its client sends is reset, and the reset
overtakes the answer; and a server that has handed over what nobody takes waits for ever, with the
connection. Whoever answers need not know. Written against plain ASGI. Source: RELIABILITY 4 row 16.
"""

from __future__ import annotations

import asyncio
from time import perf_counter

from starlette.types import Message, Receive, Send

from gateway.web.bodies import drain


class Exchange:
    """What an app receives and sends of one request, such that the request is over with it.

    `status` 0: there is no answer yet. `took_s` is from the request's last byte, or from its
    beginning where its body is not read, to the beginning of the answer.
    """

    __slots__ = ("_began_s", "_receive", "_send", "_unread", "status", "took_s")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._unread = True
        self.status = 0
        self.took_s = 0.0
        self._began_s = perf_counter()

    async def receive(self) -> Message:
        """Receive the next part of the request."""
        message = await self._receive()
        if not message.get("more_body", False):  # its end, or its client left
            self._unread = False
            if not self.status:
                self._began_s = perf_counter()
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer; its end when the request has ended, or is given up."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.took_s = perf_counter() - self._began_s
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not (last and self._unread):
            await self._send(message)
            return
        # All of the answer, but not its end: that would close the connection.
        await self._send({**message, "more_body": True})
        await drain(self.receive)
        end = {"type": "http.response.body", "body": b""}
        if not self._unread:
            await self._send(end)
            return
        swallowing = asyncio.create_task(self._swallow())
        try:
            await self._send(end)
        finally:
            swallowing.cancel()

    async def _swallow(self) -> None:
        while (await self._receive())["type"] == "http.request":
            pass
