"""The wire of `conformance`, against answers that never end, unfold, or cannot be read."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

import httpx
import pytest

from gateway.cli.conformity import wire as wire_module
from gateway.cli.conformity.answers import Answer
from gateway.cli.conformity.checks import Differs
from gateway.cli.conformity.clients import next_page
from gateway.cli.conformity.wire import NoAnswer, Reply, Wire, new_client
from tests.cli.kiosk import wire_to


def test_no_cookie_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    cookies: list[str | None] = []

    def setting(request: httpx.Request) -> httpx.Response:
        cookies.append(request.headers.get("cookie"))
        return httpx.Response(200, json={}, headers={"Set-Cookie": "JSESSIONID=abc; Path=/"})

    wire = wire_to(setting)
    for _ in range(2):
        wire.send("GET", "http://127.0.0.1/", {})
    assert cookies == [None, None]


def test_what_is_packed_is_not_unpacked() -> None:
    asked: list[str] = []

    def packed(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["accept-encoding"])
        return httpx.Response(200, stream=Broken(), headers={"Content-Encoding": "gzip, gzip"})

    class Broken(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            raise AssertionError("it was read")

    with pytest.raises(NoAnswer, match="gzip"):
        Wire(new_client(httpx.MockTransport(packed))).send("GET", "http://kiosk/", {})
    assert asked == ["identity"]


def test_an_answer_has_a_bound_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "ANSWER_BYTES_MAX", 10)
    with pytest.raises(NoAnswer, match="over 10 bytes"):
        wire_to(lambda _: httpx.Response(200, text="x" * 11)).send("GET", "http://kiosk/", {})


@contextmanager
def dripping(first: bytes, drop: bytes) -> Iterator[str]:
    """Serve an answer whose headers never end: `first`, then `drop` over and over."""
    ended = Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(first)
            while not ended.wait(0.02):
                connection.sendall(drop)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize(
    ("first", "drop"),
    [(b"HTTP/1.1 200 OK\r\nX-A: ", b"a"), (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n")],
)
def test_headers_that_never_end_are_no_answer(
    first: bytes, drop: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_module, "TIMEOUT_S", 0.2)
    with (
        dripping(first, drop) as url,
        new_client() as client,
        pytest.raises(NoAnswer, match=r"within 0\.2 s"),
    ):
        Wire(client).send("GET", url, {})


def test_a_date_beyond_all_years_differs() -> None:
    date = "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"
    answer = Answer(Reply(200, {"date": date}, b'{"features": []}'))
    with pytest.raises(Differs, match="a Date"):
        _ = answer.at_s


def test_a_link_with_control_characters_is_none() -> None:
    assert next_page(Reply(200, {"link": '<?a=\x01>; rel="next"'}, b"")) is None
    assert next_page(Reply(200, {"link": '<?a=1&b=%20>; rel="next"'}, b"")) == "?a=1&b=%20"
