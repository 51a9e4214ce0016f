"""A served gateway to be attacked, as a process: its instances, its credentials, its books.

Decided here: what there is to attack, and what is read of it afterwards. HOSTILE is asked by
clients, FLOATING by LicenseSpring's, DESK is administrated, and OTHER is asked by nobody who may.
A credential that is good at one of them is good at no other.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import jwt
import redis

from tests.faults.hostile_jws import oracle_keys
from tests.faults.hostile_oracle import Keys
from tests.system.processes import COMMAND, Gateway, Processes, clean_environ
from tests.vectors.credentials import keys_of, private

HOSTILE, FLOATING, DESK, OTHER = "HOSTILE", "FLOATING", "DESK", "OTHER"
INSTANCES: Final = (HOSTILE, FLOATING, DESK, OTHER)
BASE: Final = "/api/1.0/instances"
NAME: Final = "ann"
PASSWORD: Final = "correct horse"
ROLES: Final = "ROLE_READ,ROLE_DROPCLIENT,ROLE_ADMIN,ROLE_PRODUCER"

_LINES: Final = """
  [[instance.line]]
  id = "L1"
  feature = "sessions"
  version = "1.0"
  count = 9000
  model = "metered"
  undo_interval = "1h"
  [[instance.line]]
  id = "L2"
  feature = "pages"
  version = "1.0"
  count = "uncounted"
  model = "metered"
  [[instance.line]]
  id = "L3"
  feature = "editor"
  version = "2.0"
  count = 3
  model = "concurrent"
  borrow_interval = "1h"
"""
_FLOATING: Final = """
  [[instance.line]]
  id = "units"
  feature = "units"
  version = "1.0"
  count = 9000
  model = "metered"
  licensespring = { license_id = 77, product = "PROD" }
  [[instance.line]]
  id = "seats"
  feature = "seats"
  version = "1.0"
  count = 3
  model = "concurrent"
  licensespring = { license_id = 77, product = "PROD" }
  [[instance.line]]
  id = "pages"
  feature = "pages"
  version = "1.0"
  count = "uncounted"
  model = "metered"
  licensespring = { license_id = 77, product = "PROD", feature = "pages" }
"""
# Connections come from a proxy that may name any address: log-ins are bounded by it.
_SETTINGS: Final = {
    "GATEWAY_SERVER__TRUSTED_PROXIES": "127.0.0.1",
    "GATEWAY_SERVER__BODY_TIMEOUT_S": "0.3",
    "GATEWAY_LICENSESPRING__INSTANCE": FLOATING,
    "GATEWAY_LICENSESPRING__AUTH": "true",
    "GATEWAY_EXPLAIN__RETENTION": "1h",
    "GATEWAY_LOG__LEVEL": "warning",
    "GATEWAY_REDIS__DEADLINE_MS": "20000",  # nothing is refused because the machine stalls
}


@dataclass(frozen=True)
class Site:
    """A gateway that answers, and what lets in: `token` at HOSTILE, `session` at DESK, `floating`
    at FLOATING.
    """

    gateway: Gateway
    token: str
    session: str
    floating: str
    keys: Keys  # of HOSTILE's clients
    cookie: str  # of a session at DESK's pages, and what its forms bring
    xsrf: str

    @property
    def memory_bytes(self) -> int:
        """What the gateway has of real memory."""
        status = Path(f"/proc/{self.gateway.process.pid}/status").read_text()
        (line,) = (each for each in status.splitlines() if each.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    @contextmanager
    def store(self) -> Iterator[Any]:
        with redis.Redis(unix_socket_path=str(self.gateway.data_dir / "valkey.sock")) as client:
            yield client

    def balance(self) -> dict[tuple[str, str], int]:
        """Give what each metered line acknowledged; the books are in order."""
        told = _run("verify", "--format", "json", "--deep", data_dir=self.gateway.data_dir)
        read = json.loads(told)
        assert read["conservation"] == "OK"
        return {
            (instance["id"], line["id"]): line["acked"]
            for instance in read["instances"]
            for line in instance["lines"]
            if line["acked"] is not None
        }


def open_site(directory: Path, processes: Processes) -> Site:
    """Start a gateway and provision it."""
    for whose in ("own", "other"):
        for key in keys_of(whose):
            (directory / f"{key.kid}.der").write_bytes(key.public)
    (directory / "site.toml").write_text(_provisioning())
    gateway = processes.serve(**_SETTINGS)
    _run("apply", str(directory / "site.toml"), data_dir=gateway.data_dir)
    for instance in (DESK, FLOATING):
        arguments = ("users", "add", instance, NAME, "--roles", ROLES, "--password-stdin")
        _run(*arguments, data_dir=gateway.data_dir, given=PASSWORD)
    with httpx.Client(base_url=gateway.url, timeout=60) as http:
        login = {"user": NAME, "password": PASSWORD}
        session = _answered(http.post(f"{BASE}/{DESK}/authorize", json=login))["token"]
        login = {"username": NAME, "password": PASSWORD}
        floating = _answered(http.post("/api/v5/auth/login", json=login))["token"]
        form = {"instance": DESK, "user": NAME, "password": PASSWORD}
        entered = http.post("/ui/login", data=form)
        page = http.get(entered.headers["location"]).text
    xsrf = page.partition('name="xsrf" value="')[2].partition('"')[0]
    cookie = entered.cookies["gateway_session"]
    return Site(gateway, capability(), session, floating, oracle_keys(), cookie, xsrf)


def capability(**claims: Any) -> str:
    """Make a token that lets in at HOSTILE."""
    now_s = int(time.time())
    said = {"sub": "h", "roles": "ROLE_CAPABILITY", "iat": now_s, "exp": now_s + 7_200} | claims
    return jwt.encode(
        said, private("own", "RS256"), algorithm="RS256", headers={"kid": "own-RS256"}
    )


def _provisioning() -> str:
    parts = []
    for instance in INSTANCES:
        whose = "own" if instance == HOSTILE else "other"
        parts.append(f'[[instance]]\nid = "{instance}"\n')
        if instance != FLOATING:
            parts.extend(
                f'  [[instance.key]]\n  kid = "{key.kid}"\n  public_file = "{key.kid}.der"\n'
                for key in keys_of(whose)
            )
        parts.append(_FLOATING if instance == FLOATING else _LINES)
    return "".join(parts)


def _answered(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


def _run(*arguments: str, data_dir: Path, given: str = "") -> str:
    ended = subprocess.run(
        [*COMMAND, *arguments, "--data-dir", str(data_dir)],
        env=clean_environ(),
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
