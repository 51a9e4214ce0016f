"""The proxy does to bytes what it is told to, from the moment on that it is told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.stores.byte_proxy import ByteProxy, How
from tests.stores.programs import HOST, lasting_port
from tests.system.processes import eventually

SILENCE_S = 0.05
ANSWER_S_MAX = 30.0


class Echo:
    """Answers with the same bytes in capitals. `heard` is what arrived, portion by portion."""

    def __init__(self, listener: socket.socket, target: str | Path) -> None:
        self.target = target
        self.heard: list[bytes] = []
        self.left = 0
        self._listener = listener
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Listen no longer. Safe to repeat."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # or the thread would go on waiting
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while portion := connection.recv(65_536):
                self.heard.append(portion)
                connection.sendall(portion.upper())
        self.left += 1


@pytest.fixture(params=["tcp", "unix"])
def echo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Echo]:
    if request.param == "tcp":
        port = lasting_port()  # that nobody gets once it is closed
        echo = Echo(socket.create_server((HOST, port)), f"{HOST}:{port}")
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "echo"))
        listener.listen()
        echo = Echo(listener, tmp_path / "echo")
    yield echo
    echo.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[ByteProxy]:
    with ByteProxy(echo.target) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: ByteProxy) -> Iterator[socket.socket]:
    """A client that has said something and was answered."""
    with connected(proxy) as client:
        assert said(client, b"hello") == b"HELLO"
        yield client


def connected(proxy: ByteProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=ANSWER_S_MAX)


def said(client: socket.socket, words: bytes) -> bytes:
    client.sendall(words)
    return read(client, len(words))


def read(client: socket.socket, count: int) -> bytes:
    answer = b""
    while len(answer) < count:
        portion = client.recv(count - len(answer))
        assert portion, f"the connection ended after {answer!r}"
        answer += portion
    return answer


def is_silent(client: socket.socket) -> bool:
    client.settimeout(SILENCE_S)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(ANSWER_S_MAX)
    return False


def heard(echo: Echo) -> bytes:
    return b"".join(echo.heard)


def test_much_passes_whole_in_both_directions(proxy: ByteProxy, client: socket.socket) -> None:
    words = b"0123456789abcdef" * 16_384
    sending = threading.Thread(target=client.sendall, args=(words,))
    sending.start()
    assert read(client, len(words)) == words.upper()
    sending.join()
    assert proxy.replies.passed_bytes == len(words) + 5
    assert proxy.connections == 1


def test_swallowed_replies_never_come_though_the_request_arrived(
    proxy: ByteProxy, echo: Echo, client: socket.socket
) -> None:
    proxy.replies.become(How.SWALLOW)
    client.sendall(b"one")
    eventually(lambda: proxy.replies.lost_bytes == 3)
    assert heard(echo) == b"helloone"
    assert is_silent(client)
    proxy.heal()
    assert said(client, b"two") == b"TWO"


def test_held_requests_arrive_once_all_is_well(
    proxy: ByteProxy, echo: Echo, client: socket.socket
) -> None:
    proxy.requests.become(How.HOLD)
    client.sendall(b"one")
    assert is_silent(client)
    assert heard(echo) == b"hello"
    proxy.heal()
    assert read(client, 3) == b"ONE"


def test_over_a_partition_nobody_hears_that_the_other_left(
    proxy: ByteProxy, echo: Echo, client: socket.socket
) -> None:
    proxy.partition()
    client.close()
    with connected(proxy) as other:  # the kernel takes it, as it does for a process that is paused
        other.sendall(b"one")
        assert is_silent(other)
        assert (heard(echo), echo.left) == (b"hello", 0)
        proxy.heal()
        eventually(lambda: echo.left == 1)
        assert read(other, 3) == b"ONE"


def test_a_partition_spares_those_on_the_target_s_side() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with ByteProxy(f"127.0.0.1:{port}") as proxy, connected(proxy) as spared:
            there, (_, spared_port) = listener.accept()
            with there, connected(proxy) as cut_off:
                other, _ = listener.accept()
                with other:
                    proxy.partition(spare=[spared_port])
                    spared.sendall(b"one")
                    cut_off.sendall(b"two")
                    there.settimeout(ANSWER_S_MAX)
                    assert read(there, 3) == b"one"
                    assert is_silent(other)
                    proxy.heal()
                    assert read(other, 3) == b"two"


def test_a_black_hole_takes_everything_and_nothing_comes_of_it(
    proxy: ByteProxy, echo: Echo, client: socket.socket
) -> None:
    proxy.black_hole()
    with connected(proxy) as other:
        other.sendall(b"one")
        eventually(lambda: proxy.requests.lost_bytes == 3)
        assert is_silent(other)
        proxy.heal()
        assert said(other, b"two") == b"TWO"
    assert heard(echo) == b"hellotwo"


def test_delayed_replies_come_in_order_and_not_before_their_time(
    proxy: ByteProxy, client: socket.socket
) -> None:
    proxy.replies.become(How.DELAY, 0.1)
    begun_s = time.monotonic()
    assert said(client, b"one") == b"ONE"
    assert time.monotonic() - begun_s >= 0.1
    proxy.replies.become(How.DELAY, 60)
    client.sendall(b"two")
    client.sendall(b"three")
    assert is_silent(client)
    proxy.heal()  # what is delayed is not forgotten
    assert read(client, 8) == b"TWOTHREE"


def test_sliced_requests_arrive_whole_in_many_portions(
    proxy: ByteProxy, echo: Echo, client: socket.socket
) -> None:
    proxy.requests.become(How.SLICE)
    words = b"0123456789abcdef" * 512

    def in_many() -> bool:
        echo.heard.clear()
        assert said(client, words) == words.upper()
        assert heard(echo) == words
        return len(echo.heard) > 16

    eventually(in_many)  # as soon as Echo has its turns meanwhile


@pytest.mark.parametrize(("direction", "arrived"), [("requests", b""), ("replies", b"one")])
def test_a_reset_on_the_way_is_seen_by_both(
    proxy: ByteProxy, echo: Echo, client: socket.socket, direction: str, arrived: bytes
) -> None:
    getattr(proxy, direction).become(How.RESET)
    client.sendall(b"one")
    with pytest.raises(ConnectionResetError):
        client.recv(3)
    eventually(lambda: echo.left == 1)
    assert heard(echo) == b"hello" + arrived
    proxy.heal()
    with connected(proxy) as other:
        assert said(other, b"two") == b"TWO"


def test_a_reset_of_all_ends_those_that_are_there(
    proxy: ByteProxy, echo: Echo, client: socket.socket
) -> None:
    with connected(proxy) as other:
        assert said(other, b"one") == b"ONE"
        proxy.reset()
        for each in (client, other):
            with pytest.raises(ConnectionResetError):
                each.recv(1)
    with connected(proxy) as new:
        assert said(new, b"two") == b"TWO"


def test_with_nobody_behind_it_a_client_is_reset(proxy: ByteProxy, echo: Echo) -> None:
    echo.close()
    with pytest.raises(ConnectionResetError), connected(proxy) as client:
        said(client, b"one")


def test_closing_ends_clients_and_frees_the_port(echo: Echo) -> None:
    port = lasting_port()
    with ByteProxy(echo.target, port) as proxy, connected(proxy) as client:
        assert said(client, b"one") == b"ONE"
        proxy.partition()
        proxy.close()
        assert client.recv(1) == b""
    with ByteProxy(echo.target, port) as again, connected(again) as client:
        assert said(client, b"two") == b"TWO"
