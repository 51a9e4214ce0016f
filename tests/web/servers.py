"""Our own serving in the test's loop: any app behind real connections.

Decided here: that it stops without a drain unless told otherwise, that a silent client keeps its
place for longer than any test takes, and that a stop has no deadline, which would end the test's
own process.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h2.connection
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from starlette.types import ASGIApp

from gateway.config import load_config
from gateway.web.lifecycle import Lifecycle
from gateway.web.serving import bind, serve, tls_context
from gateway.web.stopping import Stop
from tests.served_by import chosen

HOST = "127.0.0.1"
READ_BYTES = 2**16
FRAME_BYTES = 2**14


class EndlessStop(Stop):
    """A stop that takes as long as it takes."""

    def exit_within(self, span_s: float) -> None:
        """Let the process live."""


@dataclass(frozen=True)
class Standing:
    """A server that answers. `stop` begins its orderly stop; `ended` is done when that is over."""

    port: int
    certificate: str  # "" when it serves no TLS
    lifecycle: Lifecycle
    stop: Stop
    ended: asyncio.Task[None]
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://{HOST}:{self.port}"

    def trusting(self) -> ssl.SSLContext | None:
        """Give what one more client of its own trusts."""
        if not self.certificate:
            return None
        return ssl.create_default_context(cafile=self.certificate)

    async def connect(
        self, tls: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection; it is aborted when the server ends, if it still is open then."""
        reader, writer = await asyncio.open_connection(HOST, self.port, ssl=tls)
        self._writers.append(writer)
        return reader, writer

    def abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


def run(told: Coroutine[Any, Any, None]) -> None:
    """Run a story in the loop that gateways run in."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(told)


@asynccontextmanager
async def standing(app: ASGIApp, **settings: str) -> AsyncIterator[Standing]:
    """Serve an app; `settings` are environment variables without their prefix."""
    environ = {"GATEWAY_SERVER__DRAIN_S": "0", "GATEWAY_SERVER__HEADER_TIMEOUT_S": "60"}
    environ |= {f"GATEWAY_{name}": value for name, value in settings.items()}
    config = load_config(None, environ, {})
    listener = bind(HOST, 0)
    port = listener.getsockname()[1]
    ready, lifecycle, stop = asyncio.Event(), Lifecycle(), EndlessStop()
    serving = asyncio.create_task(
        serve(
            app,
            listener,
            config,
            tls=tls_context(config),
            lifecycle=lifecycle,
            stop=stop,
            announce=ready.set,
            server=chosen(),
        )
    )
    try:
        await asyncio.wait(
            {serving, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED
        )
        if serving.done():
            await serving
        stands = Standing(port, config.server.tls_cert, lifecycle, stop, serving)
        try:
            yield stands
        finally:
            stands.abort()
    finally:
        listener.close()
        stop.asked.set()
        stop.hurried.set()
        await asyncio.wait({serving})


class Http2:
    """A client of HTTP/2 that shows what it is told, frame by frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._connection = h2.connection.H2Connection()
        self._events: deque[Any] = deque()

    def take_at_most(self, answer_bytes: int) -> None:
        """Let the server send no more than this of an answer, from the beginning on."""
        code = SettingCodes.INITIAL_WINDOW_SIZE
        self._connection.local_settings[code] = answer_bytes
        self._connection.local_settings.acknowledge()

    def leave(self) -> None:
        self._writer.transport.abort()

    async def begin(self) -> None:
        self._connection.initiate_connection()
        await self._flush()

    async def ask(self, method: str, path: str, *, end: bool = True, **headers: str) -> int:
        """Send the head of a request; give the stream it is on."""
        stream = self._connection.get_next_available_stream_id()
        pseudo = {":method": method, ":path": path, ":scheme": "http", ":authority": "x"}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.send_headers(stream, list((pseudo | named).items()), end_stream=end)
        await self._flush()
        return stream

    async def send(self, stream: int, body: bytes, *, end: bool = True) -> None:
        for at in range(0, len(body), FRAME_BYTES):
            self._connection.send_data(stream, body[at : at + FRAME_BYTES])
        if end:
            self._connection.end_stream(stream)
        await self._flush()

    async def make_noise(self, noise: str) -> None:
        """Send a ping, a priority, or a request that is taken back at once."""
        if noise == "ping":
            self._connection.ping(bytes(8))
        elif noise == "priority":
            self._connection.prioritize(1_001, weight=7)
        else:
            stream = await self.ask("GET", "/x")
            self._connection.reset_stream(stream, ErrorCodes.CANCEL)
        await self._flush()

    async def heard(self, kind: type[Any]) -> Any:
        """Read until something of this kind is told; None when the server leaves before."""
        while True:
            while self._events:
                event = self._events.popleft()
                if isinstance(event, kind):
                    return event
            try:
                data = await self._reader.read(READ_BYTES)
                if not data:
                    return None
                self._events += self._connection.receive_data(data)
                await self._flush()
            except ConnectionError:  # it left in the middle of what we said
                if not self._events:
                    return None

    async def _flush(self) -> None:
        self._writer.write(self._connection.data_to_send())
        await self._writer.drain()


def self_signed(directory: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that lasts a day, and its key, as files."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address(HOST))
    certificate = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(private, hashes.SHA256())
    )
    certificate_file, key_file = directory / "certificate.pem", directory / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_file, key_file
