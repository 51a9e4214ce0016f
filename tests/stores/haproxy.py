"""HAProxy before gateways: the balancer that operators run, with the very file that they are given.

Decided here: how deploy/haproxy.cfg is run in a test: Debian's package, a port and an admin socket
of its own, told by the environment as the file says; ended by its process id. Not decided here: the
file, and what the gateways behind it do. Source: RELIABILITY 3 (trap 6) and 4 (row 2), INTERFACE 1.
"""

from __future__ import annotations

import csv
import shutil
import signal
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.stores.programs import Program, demand
from tests.system.processes import ROOT, eventually

BINARY = "haproxy"
BACKEND = "gateways"
CONFIG_FILE = ROOT / "deploy" / "haproxy.cfg"
SERVERS_MAX = 4  # as many as the file has lines for
NOTICE_S_MAX = 60.0
ANSWER_S_MAX = 30.0
ANSWER_BYTES_MAX = 65_536


def environment(bind: str, servers: Mapping[str, str], admin: str) -> dict[str, str]:
    """Give what the file is told: to listen on `bind`, before `servers` (name: host and port).

    `admin` is the whole path of the admin socket.
    """
    told = {name.upper().replace("-", "_"): address for name, address in servers.items()}
    return {"HAPROXY_BIND": bind, "HAPROXY_ADMIN": admin, **told}


class HAProxy(Program):
    """HAProxy before gateways at these addresses, "host:port"; begins as it is entered.

    They are called gateway-0, gateway-1, …; none need be there yet. Its log has a line for each
    request. Stopped, it finishes what is under way. Without the program the test is skipped, but
    fails in CI. Its directory goes as it is left.
    """

    def __init__(self, addresses: list[str]) -> None:
        demand(BINARY)
        assert len(addresses) <= SERVERS_MAX
        # Not under the test's own directory: a socket's address has some hundred characters.
        directory = Path(tempfile.mkdtemp(prefix="haproxy-"))
        command: list[str] = []
        super().__init__(directory, command, self._listens, signal.SIGUSR1)
        self.servers = {f"gateway-{number}": each for number, each in enumerate(addresses)}
        self._admin = str(directory / "admin.sock")
        environ = environment(self.address, self.servers, self._admin)
        laid = [f"{name}={text}" for name, text in environ.items()]
        command += ["env", *laid, BINARY, "-db", "-f", str(CONFIG_FILE)]  # in the foreground

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        shutil.rmtree(self.directory)

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def stats(self) -> dict[str, dict[str, str]]:
        """Give the statistics of each gateway by its name, as HAProxy calls them.

        Such as `status`, `stot` (requests sent to it), `econ` (no connection), `eresp` (broken
        answers), `wredis` (sent to another one instead).
        """
        rows = csv.DictReader(self.ask("show stat").lstrip("# ").splitlines())
        return {row["svname"]: row for row in rows if row["svname"] in self.servers}

    def up(self) -> set[str]:
        """Give the names of the gateways that were asked and are ready."""
        # Before the first check it calls them up, too.
        return {
            name
            for name, told in self.stats().items()
            if told["status"].startswith("UP") and told["check_status"].endswith("L7OK")
        }

    def wait_up(self, *names: str) -> None:
        """Wait until these gateways, by default all, are found ready."""
        wanted = set(names or self.servers)
        eventually(lambda: wanted <= self.up(), NOTICE_S_MAX)

    def wait_down(self, *names: str) -> None:
        """Wait until none of these gateways gets requests any more."""
        eventually(lambda: all(self._is_down(name) for name in names), NOTICE_S_MAX)

    def end_checks(self) -> None:
        """Have those who are up now stay so: a gateway that stalls is not passed over."""
        for name in self.servers:
            self.ask(f"disable health {BACKEND}/{name}")

    def ask(self, command: str) -> str:
        """Send a command to the admin socket and give the answer."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(ANSWER_S_MAX)
            admin.connect(self._admin)
            admin.sendall(f"{command}\n".encode())
            answer = b""
            while portion := admin.recv(ANSWER_BYTES_MAX):
                answer += portion
        return answer.decode()

    def _is_down(self, name: str) -> bool:
        return self.stats()[name]["status"].startswith("DOWN")

    def _listens(self) -> bool:
        try:
            return "Uptime" in self.ask("show info")
        except OSError:
            return False
