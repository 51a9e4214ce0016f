"""Connections that are cut from beside whoever holds them: those that are named, and no others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from gateway.web.peers import Address, Cutter, cut_peers

Pair = tuple[socket.socket, socket.socket]  # a client, and our end of it


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as open_:
        yield open_


def pairs(stack: ExitStack, family: socket.AddressFamily, host: str, count: int) -> list[Pair]:
    listener = stack.enter_context(socket.create_server((host, 0), family=family))
    made = []
    for _ in range(count):
        client = stack.enter_context(socket.create_connection(listener.getsockname()[:2], 60))
        accepted, _ = listener.accept()
        stack.enter_context(accepted)
        accepted.settimeout(60)
        made.append((client, accepted))
    return made


def end_of(client: socket.socket) -> Address:
    host, port = client.getsockname()[:2]
    return host, port


def is_alive(pair: Pair) -> bool:
    client, ours = pair
    try:
        ours.sendall(b"x")
        return client.recv(1) == b"x"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_those_that_are_named_are_cut(
    stack: ExitStack, family: socket.AddressFamily, host: str
) -> None:
    made = pairs(stack, family, host, 4)
    port = made[0][1].getsockname()[1]
    assert cut_peers(port, {end_of(made[1][0]), end_of(made[2][0])}) == 2
    assert [is_alive(each) for each in made] == [True, False, False, True]
    assert made[1][0].recv(1) == b""
    assert cut_peers(port) >= 2
    assert not any(is_alive(each) for each in made)


def test_connections_to_other_ports_are_left_alone(stack: ExitStack) -> None:
    ours = pairs(stack, socket.AF_INET, "127.0.0.1", 2)
    others = pairs(stack, socket.AF_INET, "127.0.0.1", 2)
    port = ours[0][1].getsockname()[1]
    assert cut_peers(port, {end_of(client) for client, _ in others}) == 0
    assert cut_peers(port) == 2
    assert all(is_alive(each) for each in others)


def test_many_are_cut_at_once_and_nobody_waits_for_one_that_is_gone(stack: ExitStack) -> None:
    made = pairs(stack, socket.AF_INET, "127.0.0.1", 5)
    port = made[0][1].getsockname()[1]

    async def story() -> None:
        cutter = Cutter(port)
        asked = [end_of(client) for client, _ in made[:4]]
        async with asyncio.timeout(60):
            await asyncio.gather(*(cutter.cut(each) for each in [*asked, asked[0], ("::2", 1)]))
            await cutter.cut(asked[1])

    asyncio.run(story())
    assert [is_alive(each) for each in made] == [False] * 4 + [True]
