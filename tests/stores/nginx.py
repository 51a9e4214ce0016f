"""nginx before gateways, with the very file that operators are given.

Decided here: how deploy/nginx.conf is run in a test: Debian's package, its ${NAMES} filled in as
the official image does it, a port and a directory of its own. Not decided here: the file, and what
the gateways behind it do. Source: RELIABILITY 3 (trap 6) and 4 (row 2).
"""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

from tests.stores.programs import HOST, Program, demand
from tests.system.processes import ROOT

BINARY = "nginx"
TEMPLATE = ROOT / "deploy" / "nginx.conf"
CONFIG_FILE = "nginx.conf"
LOG_OF_REQUESTS = "requests"
SERVERS = 2  # as many as the file has


class Nginx(Program):
    """nginx before two gateways at these addresses, "host:port"; begins as it is entered.

    Left by SIGTERM: killed, it would leave its workers behind. Without the program the test is
    skipped, but fails in CI.
    """

    def __init__(self, directory: Path, addresses: list[str]) -> None:
        demand(BINARY)
        assert len(addresses) == SERVERS
        command = [BINARY, "-p", ".", "-c", CONFIG_FILE, "-g", "daemon off;"]
        super().__init__(directory, command, self._listens, signal.SIGTERM)
        directory.mkdir(parents=True, exist_ok=True)
        environ = {f"GATEWAY_{number}": address for number, address in enumerate(addresses)} | {
            "NGINX_LISTEN": self.address,
            "NGINX_LOG": str(directory / LOG_OF_REQUESTS),
            "NGINX_RUN": str(directory),
        }
        (directory / CONFIG_FILE).write_text(filled_in(TEMPLATE.read_text(), environ))

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def _listens(self) -> bool:
        try:
            socket.create_connection((HOST, self.port), 1).close()
        except OSError:
            return False
        return True


def filled_in(template: str, environ: Mapping[str, str]) -> str:
    """Replace what is defined, and nothing else, as `envsubst` with a list of names does."""

    def told(match: re.Match[str]) -> str:
        return environ.get(match[1] or match[2], match[0])

    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", told, template)
