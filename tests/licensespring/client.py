"""A LicenseSpring client of our own, written from the protocol page: v1, v2, v2 with signatures.

Decided here: what such a client sends, and what it does not forgive: an answer without what it
needs, a body that is not what was signed. It knows nothing of the gateway; it picks its version as
the vendor's python client does. Source: protocols/licensespring.md 1.2, 1.3, 2, 2.2 and 9 item 9.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.licensespring.signatures import Certificate, problems_of, read_chain

SDK = "test 1.0"


class Broken(Exception):
    """An answer that a client cannot work with."""


@dataclass(frozen=True)
class Answer:
    """What came back. `body` is JSON, or text where it is none."""

    status: int
    body: Any
    headers: httpx.Headers
    content: bytes

    @property
    def code(self) -> str:
        """The word of a refusal; "" of success."""
        return "" if self.status == 200 else str(self.body["code"])

    @property
    def total(self) -> int:
        """What is consumed, by what a consumption call answers."""
        return int(self.body["total_consumptions"])

    @property
    def license(self) -> dict[str, Any]:
        """The licence object of a registration or a borrow, wherever it is."""
        found: dict[str, Any] = self.body
        if "license_json" in found:
            found = json.loads(found["license_json"])
        return found


@dataclass
class Client:
    """One user of one licence. With a `chain` (PEM) it verifies what version 2 signs."""

    http: httpx.AsyncClient
    product: str
    user: str
    license_id: int | None = None
    chain: str | None = None
    version: int = 0  # 0: not chosen yet
    token: str = ""
    hostname: str = "wks-12"
    _leaf: Certificate | None = field(default=None, repr=False)

    async def choose(self) -> int:
        """Choose the version: a pong is 2, any other answer is 1."""
        answer = await self.http.get("/api/v5/ping")
        try:
            said = answer.json()
        except ValueError:
            said = {}
        self.version = 2 if said.get("message") == "pong" else 1
        if self.version == 2 and self.license_id is None:
            listed = await self.send("GET", f"/api/v5/license?product={self.product}")
            self.license_id = listed.body[-1]["id"] if listed.body else None
        return self.version

    async def login(self, user: str, password: str) -> Answer:
        """Log in as a user of the server, in the manner of the version."""
        if self.version == 1:
            pair = base64.b64encode(f"{user}:{password}".encode()).decode()
            answer = await self.send("GET", "/auth", headers={"Authorization": f"Basic {pair}"})
        else:
            answer = await self.send(
                "POST", "/api/v5/auth/login", {"username": user, "password": password}
            )
        self.token = answer.body.get("token", "")
        return answer

    async def register(self, **more: Any) -> Answer:
        """Register, or say again that one is there."""
        if self.version == 1:
            answer = await self._v1("register", {**self._machine(), **more})
            return self._needs(answer, floating_slots_in_use=int, license_json=str)
        answer = await self._v2("user/register", {"email": None, **self._machine(), **more})
        return self._needs(answer, floating_timeout=int, license_features=list)

    async def unregister(self, **more: Any) -> Answer:
        """Give the seat back."""
        path = "unregister" if self.version == 1 else "user/unregister"
        return await self._call(path, {"sdk_ver": SDK, **more}, signed=False)

    async def borrow(self, until: str | None = None, **more: Any) -> Answer:
        """Keep the seat until a moment (RFC 3339), or as long as may be."""
        path = "borrow" if self.version == 1 else "user/borrow"
        said = {} if until is None else {"borrowed_until": until}
        answer = await self._call(path, {**self._machine(), **said, **more})
        # The manager of the python client reads the shape of version 1 of both.
        return self._needs(answer, floating_slots_in_use=int, license_json=str, borrowed_until=str)

    async def add(self, consumptions: Any = 1, **more: Any) -> Answer:
        """Consume of the licence; overages among `more`."""
        path = "add_consumption" if self.version == 1 else "consumption/add"
        answer = await self._call(path, {"consumptions": consumptions, "sdk_ver": SDK, **more})
        return self._needs(answer, total_consumptions=int, max_consumptions=int)

    async def add_feature(self, feature: str, consumptions: Any = 1, **more: Any) -> Answer:
        """Consume of a feature."""
        path = "add_feature_consumption" if self.version == 1 else "consumption/feature/add"
        said = {"feature": feature, "consumptions": consumptions, "sdk_ver": SDK, **more}
        return self._needs(
            await self._call(path, said), total_consumptions=int, max_consumptions=int
        )

    async def register_feature(self, feature: str, **more: Any) -> Answer:
        """Register for a feature that is held."""
        path = "featureRegister" if self.version == 1 else "feature/register"
        return await self._call(path, {"feature": feature, **self._machine(), **more})

    async def release_feature(self, feature: str, **more: Any) -> Answer:
        """Give a feature back."""
        path = "featureRelease" if self.version == 1 else "feature/release"
        return await self._call(path, {"feature": feature, **more}, signed=False)

    async def read(self) -> Answer:
        """Read the licence."""
        if self.version == 1:
            known = "" if self.license_id is None else f"&license_id={self.license_id}"
            return await self.send("GET", f"/api/v4/license?product={self.product}{known}")
        return await self.send("GET", f"/api/v5/license/{self.license_id}")

    async def users(self) -> Answer:
        """List who is registered (version 2)."""
        return await self.send("GET", f"/api/v5/license/{self.license_id}/user")

    async def send(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send anything, with the token if there is one."""
        sent = {"Accept": "application/json"} | (headers or {})
        if self.token and "Authorization" not in sent:
            sent["Authorization"] = f"Bearer {self.token}"
        answer = await self.http.request(method, path, json=body, headers=sent)
        try:
            said = answer.json()
        except ValueError:
            said = answer.text
        if 400 <= answer.status_code < 500 and not (
            isinstance(said, dict) and isinstance(said.get("message"), str)
        ):
            raise Broken(f"a refusal without a message: {answer.text}")
        return Answer(answer.status_code, said, answer.headers, answer.content)

    async def _call(self, path: str, said: dict[str, Any], *, signed: bool = True) -> Answer:
        if self.version == 1:
            return await self._v1(path, said)
        return await self._v2(path, said, signed=signed)

    async def _v1(self, path: str, said: dict[str, Any]) -> Answer:
        headers = said.pop("headers", None)
        body = {"product": self.product, "user": self.user, **said}
        if self.license_id:
            body["license_id"] = self.license_id
        return await self.send("POST", f"/api/v4/{path}", body, headers=headers)

    async def _v2(self, path: str, said: dict[str, Any], *, signed: bool = True) -> Answer:
        headers = said.pop("headers", None)
        body = {"username": self.user, **said}
        url = f"/api/v5/license/{self.license_id}/{path}"
        answer = await self.send("POST", url, body, headers=headers)
        if self.chain is not None and signed and answer.status == 200:
            self._verify(answer)
        return answer

    def _verify(self, answer: Answer) -> None:
        """Verify as both kinds of clients do: over the bytes, and over the body written anew."""
        if self._leaf is None:
            chain = read_chain(self.chain or "")
            if found := problems_of(chain):
                raise Broken(f"the chain: {found}")
            self._leaf = chain[0]
        signature = base64.b64decode(answer.headers.get("LicenseSignature", ""), validate=True)
        anew = json.dumps(answer.body, separators=(",", ":"), ensure_ascii=False).encode()
        for content in (answer.content, anew):
            if not self._leaf.key.verifies(signature, content):
                raise Broken(f"the signature is not of {content!r}")

    def _machine(self) -> dict[str, Any]:
        return {
            "os_hostname": self.hostname,
            "ip_local": None,
            "user_info": None,
            "sdk_ver": SDK,
            "app_ver": "3.1",
        }

    def _needs(self, answer: Answer, **kinds: type) -> Answer:
        """Look whether an answer has what a client reads of it."""
        if answer.status != 200:
            return answer
        for name, kind in kinds.items():
            if type(answer.body.get(name)) is not kind:
                raise Broken(f"{name} is no {kind.__name__}: {answer.body}")
        for name in ("user", "company", "customer", "product_details"):
            if isinstance(answer.body.get(name), str):
                raise Broken(f"{name} is a text, and clients take it for an object")
        return answer
