"""The servers that can take our connections, by name, and what each of them has to be able to do.

Decided here: which there are, and that one which is not installed is asked for in one sentence.
Each is imported when it is asked for, so that who serves with one needs nothing of the other. Not
decided here: the order of a stop (serving.py), nor what becomes of a connection (connections.py,
serving_granian.py). Source: INTERFACE 1.
"""

from __future__ import annotations

import socket
import ssl
from importlib.util import find_spec
from typing import Final, Protocol

from starlette.types import ASGIApp

from gateway.config import Config
from gateway.core.errors import InvalidInput
from gateway.web.lifecycle import Lifecycle
from gateway.web.refusing import Refusing

HYPERCORN: Final = "hypercorn"
GRANIAN: Final = "granian"
NAMES: Final = (HYPERCORN, GRANIAN)


class Server(Protocol):
    """Takes connections and hands the requests on them to an app."""

    def listen(self, listener: socket.socket) -> None:
        """Begin to take the connections that come; the listener is the server's from now on."""

    def refuse_new(self) -> None:
        """Take no more connections, for ever."""

    async def sweep(self) -> None:
        """Look after those that are open, for ever."""

    async def finish(self) -> None:
        """Let requests in flight end, within a bound, and idle connections at once."""


def check_server(name: str) -> None:
    """Raise InvalidInput for a server that is none, or is not installed."""
    if name not in NAMES:
        raise InvalidInput(f"There is no server {name!r}; expected one of {', '.join(NAMES)}")
    if name == GRANIAN and find_spec("granian") is None:
        raise InvalidInput(
            "--server granian needs the package granian: pip install 'cmapi-gateway[granian]'"
        )


def make_server(
    name: str,
    app: ASGIApp,
    config: Config,
    tls: ssl.SSLContext | None,
    lifecycle: Lifecycle,
    refusing: Refusing,
) -> Server:
    """Make the server of a name. Raises InvalidInput as `check_server` does."""
    check_server(name)
    if name == GRANIAN:
        from gateway.web.serving_granian import GranianConnections

        return GranianConnections(app, config, tls=tls is not None)
    from gateway.web.connections import Connections

    settings, connections_max = config.server, config.limits.connections
    return Connections(app, settings, connections_max, tls, lifecycle, refusing)
