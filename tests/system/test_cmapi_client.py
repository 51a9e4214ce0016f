"""A CMAPI client that knows the protocol reference only, against `serve` as a real process.

The client is written from protocols/cmapi.md 3 to 7 with the standard library and PyJWT: what it
needs and the server lacks, a real client would miss too. The cases are those of SEMANTICS 12 that
need no other clock than the wall's.
"""

from __future__ import annotations

import http.client
import json
import math
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.system.processes import COMMAND, Processes, clean_environ

CASES = ("E1", "E6", "E9", "E11", "E14", "E20", "E21", "E22", "SIGNED")
LINES = """
  [[instance.key]]
  public_file = "{key}.der"

  [[instance.line]]
  id = "L1"
  feature = "sessions"
  version = "1.0"
  count = 100
  model = "metered"

  [[instance.line]]
  id = "L2"
  feature = "users"
  version = "1.0"
  count = 10
  overdraft = 2
  undo_interval = "1h"
  model = "metered"

  [[instance.line]]
  id = "L3"
  feature = "editor"
  version = "2.0"
  count = 3
  model = "concurrent"
"""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    text: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.text)

    def feature(self, name: str) -> Any:
        """Give the one entry of a feature."""
        (entry,) = [entry for entry in self.body["features"] if entry["name"] == name]
        return entry


@dataclass
class Client:
    """What a product ships: a base URL, its private key, and the host it speaks for."""

    address: tuple[str, int]
    instance: str
    key: rsa.RSAPrivateKey | None
    host: dict[str, str] = field(default_factory=lambda: {"type": "string", "value": "h1"})

    def access(
        self,
        *features: tuple[str, str, int],
        more: dict[str, Any] | None = None,
        endpoint: str = "access_request",
    ) -> Answer:
        wanted = [{"name": name, "version": version, "count": n} for name, version, n in features]
        return self.post(endpoint, {"hostId": self.host, "features": wanted, **(more or {})})

    def post(self, endpoint: str, body: Any) -> Answer:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.token()}"
        path = f"/api/1.0/instances/{self.instance}/{endpoint}"
        return ask(self.address, "POST", path, json.dumps(body).encode(), headers)

    def token(self) -> str:
        now_s = int(time.time())
        claims = {"roles": "ROLE_CAPABILITY", "sub": "test", "iat": now_s, "exp": now_s + 3600}
        assert self.key is not None
        return jwt.encode(claims, self.key, algorithm="RS256")


def ask(
    address: tuple[str, int], method: str, path: str, body: bytes, headers: dict[str, str]
) -> Answer:
    connection = http.client.HTTPConnection(*address, timeout=60)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        got = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, got, answer.read())
    finally:
        connection.close()


@dataclass
class Site:
    """A running server with an instance for each case, and two keys: ours and a stranger's."""

    address: tuple[str, int]
    ours: rsa.RSAPrivateKey
    strangers: rsa.RSAPrivateKey

    def client(self, instance: str) -> Client:
        return Client(self.address, instance, self.ours)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory: Path = tmp_path_factory.mktemp("site")
    keys = {name: rsa.generate_private_key(65537, 2048) for name in ("ours", "strangers")}
    for name, key in keys.items():
        der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        (directory / f"{name}.der").write_bytes(der)
    declared = [
        f'[[instance]]\nid = "{case}"\n{"default = true" if case == "E1" else ""}\n'
        + LINES.format(key="ours")
        for case in CASES
    ]
    declared.append('[[instance]]\nid = "ELSEWHERE"\n' + LINES.format(key="strangers"))
    (directory / "site.toml").write_text("\n".join(declared))
    subprocess.run(
        [*COMMAND, "apply", str(directory / "site.toml"), "--data-dir", str(directory / "data")],
        check=True,
        capture_output=True,
        env=clean_environ(),
        timeout=120,
    )
    processes = Processes(directory)
    try:
        gateway = processes.serve(drain_s=0.1, GATEWAY_REDIS__DEADLINE_MS="20000")
        yield Site((gateway.host, gateway.port), keys["ours"], keys["strangers"])
    finally:
        processes.close()


def seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def lapse_after(answer: Answer, interval_s: int) -> float:
    """Say when a grant of this answer lapses: whole seconds, rounded up."""
    return math.ceil(seconds(answer.headers["gateway-transaction-time"]) + interval_s)


def test_usage_is_granted_and_counted_also_for_the_default_instance(site: Site) -> None:
    """SEMANTICS 12, E1 and what a second client sees of it."""
    client = site.client("~")
    answer = client.access(
        ("sessions", "1.0", 42),
        ("users", "1.0", 7),
        more={"incremental": False, "partial": True, "borrow-interval": "0d"},
    )
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.body["requestHostId"] == {"type": "string", "value": "h1"}
    assert answer.body["statusList"] == []
    assert answer.body["serverLicenseRenewInterval"] == 90720
    assert [(e["name"], e["version"], e["count"], e["maxCount"], e["entitlementExpiry"])
            for e in answer.body["features"]] == [
        ("sessions", "1.0", 42, 100, "permanent"), ("users", "1.0", 7, 12, "permanent"),
    ]  # fmt: skip
    by_name = site.client("E1")
    by_name.host = {"type": "string", "value": "h2"}
    preview = by_name.post("preview_request", {"hostId": by_name.host})
    assert preview.feature("sessions")["count"] == 58
    assert preview.feature("users")["count"] == 5
    assert "serverLicenseRenewInterval" not in preview.body


def test_a_checkout_is_served_by_a_higher_version_and_lapses_in_time(site: Site) -> None:
    """SEMANTICS 12, E6."""
    answer = site.client("E6").access(("editor", "1.0", 2), more={"borrow-interval": "1h"})
    entry = answer.feature("editor")
    assert (entry["version"], entry["count"], entry["renewInterval"]) == ("2.0", 2, 540)
    assert seconds(entry["expires"]) == lapse_after(answer, 3600)


def test_an_increment_moves_the_lapse_of_all(site: Site) -> None:
    """SEMANTICS 12, E9."""
    client = site.client("E9")
    client.access(("editor", "1.0", 2), more={"borrow-interval": "30m"})
    answer = client.access(
        ("editor", "1.0", 1), more={"incremental": True, "borrow-interval": "1h"}
    )
    entry = answer.feature("editor")
    assert entry["count"] == 3
    assert seconds(entry["expires"]) == lapse_after(answer, 3600)


def test_reading_back_changes_nothing(site: Site) -> None:
    """SEMANTICS 12, E11."""
    client = site.client("E11")
    first = client.access(("editor", "1.0", 2), more={"borrow-interval": "1h"}).feature("editor")
    for _ in range(2):
        again = client.access(more={"incremental": True})
        assert (again.feature("editor")["count"], again.body["statusList"]) == (2, [])
        assert again.feature("editor")["expires"] == first["expires"]


def test_fresh_usage_can_be_undone(site: Site) -> None:
    """SEMANTICS 12, E14."""
    client = site.client("E14")
    client.access(("sessions", "1.0", 42), ("users", "1.0", 7))
    answer = client.access(("users", "1.0", -3), more={"incremental": True})
    assert (answer.feature("users")["count"], answer.body["statusList"]) == (-3, [])
    preview = client.post("preview_request", {"hostId": client.host})
    assert preview.feature("users")["count"] == 8


def test_posting_usage_without_incremental_releases_seats(site: Site) -> None:
    """SEMANTICS 12, E20."""
    client = site.client("E20")
    client.access(("editor", "1.0", 2))
    answer = client.access(("sessions", "1.0", 1))
    assert [entry["name"] for entry in answer.body["features"]] == ["sessions"]
    assert client.access(more={"incremental": True}).body["features"] == []


def test_a_host_may_take_its_own_seats_again(site: Site) -> None:
    """SEMANTICS 12, E21."""
    client = site.client("E21")
    client.access(("editor", "1.0", 2))
    assert client.access(("editor", "1.0", 3)).feature("editor")["count"] == 3
    assert client.access(("editor", "1.0", 1)).feature("editor")["count"] == 1
    other = site.client("E21")
    other.host = {"type": "user", "value": "someone@example.com"}
    denied = other.access(("editor", "1.0", 3))
    assert (denied.status, denied.body["features"]) == (200, [])
    assert [(s["code"], s["name"], s["version"]) for s in denied.body["statusList"]] == [
        ("FEATURE_COUNT_INSUFFICIENT", "editor", "1.0")
    ]


def test_nothing_tells_an_unknown_instance_from_a_wrong_key(site: Site) -> None:
    """SEMANTICS 12, E22."""
    client = site.client("E22")
    client.access(("editor", "1.0", 2))
    refused = [
        Client(site.address, "NOSUCH000001", site.ours),
        Client(site.address, "E22", site.strangers),
        Client(site.address, "ELSEWHERE", site.ours),
        Client(site.address, "E22", None),
    ]
    answers = [each.access(("editor", "1.0", 2)) for each in refused]
    assert [answer.status for answer in answers] == [401] * 4
    assert len({answer.text for answer in answers}) == 1
    assert set(answers[0].body) == {"key", "message", "arguments"}
    assert client.access(more={"incremental": True}).feature("editor")["count"] == 2


def test_a_signed_answer_verifies_with_the_published_key(site: Site) -> None:
    """protocols/cmapi.md 6, all the checks that it asks of a client."""
    client = site.client("SIGNED")
    answer = client.access(
        ("sessions", "1.0", 5), endpoint="signed_access_request", more={"correlationId": "c-0001"}
    )
    assert answer.headers["content-type"] == "application/jose"
    published = ask(site.address, "GET", "/.well-known/jwks.json", b"", {})
    key = {each["kid"]: jwt.PyJWK(each) for each in published.body["keys"]}
    header = jwt.get_unverified_header(answer.text)
    assert header["typ"] == "access-response+jws"
    assert header["alg"] in ("EdDSA", "ES256", "RS256")
    signer = key[header["kid"]]
    content = json.loads(jwt.api_jws.decode(answer.text, signer.key, [header["alg"]]))
    assert content["instanceId"] == "SIGNED"
    assert content["requestHostId"] == client.host
    assert content["requestId"] == "c-0001"
    assert abs(content["iat"] - time.time()) < 60
    assert [entry["count"] for entry in content["features"]] == [5]
