"""The cases: what is sent, and the lane that is driven without any HTTP.

Decided here: an instance of two metered lines that never run out, two features per request, an id
and a body of its own for each signed request. Not decided here: how often and for how long
(bench.py).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.cli.benchmarks.client import Sample, percentile
from gateway.cli.benchmarks.load import Load
from gateway.core.calls import INCREMENTAL, Verdict
from gateway.core.errors import GatewayError
from gateway.core.fingerprint import fingerprint
from gateway.core.keys import PrivateKey, generate, public_der
from gateway.core.model import (
    UNITS_MAX,
    AccessRequest,
    Attachment,
    Catalogue,
    Host,
    Key,
    Line,
    Model,
    Want,
)
from gateway.core.tokens import mint_token, sign_payload
from gateway.store.calls import Job
from gateway.store.opening import Store

INSTANCE: Final = "BENCH0000001"
BATCH: Final = 64
FEATURES: Final = ("sessions", "users")
TOKEN_TTL_S: Final = 86_400
OWN_ID_TTL_MS: Final = 60_000


class CaseFailed(GatewayError):
    """What was measured did not do what it should."""


@dataclass(frozen=True, slots=True)
class Cases:
    """Keys of one benchmark, and the loads made with them."""

    token_key: PrivateKey
    signing_key: PrivateKey

    @classmethod
    def make(cls) -> Cases:
        return cls(generate("RS256"), generate("ES256"))

    def catalogue(self) -> Catalogue:
        """Give the instance that is asked. Its usage waits for an upstream, as in earnest."""
        return Catalogue(
            id=INSTANCE,
            lines=tuple(
                Line(
                    id=f"L{number}",
                    feature=name,
                    version="1.0",
                    model=Model.METERED,
                    count=None,
                    capacity=UNITS_MAX,
                )
                for number, name in enumerate(FEATURES, 1)
            ),
            keys=(
                Key("es", "ES256", public_der(self.signing_key.public_key())),
                Key("rs", "RS256", public_der(self.token_key.public_key())),
            ),
            upstreams=(Attachment("nowhere"),),
        )

    def empty(self, url: str) -> Load:
        """The same bytes as `token`, to a server that only reads them."""
        return self._with_token(url)

    def token(self, root: str) -> Load:
        """A bearer token, one body: as a fleet does it that sends no ids."""
        return self._with_token(f"{root}/api/1.0/instances/{INSTANCE}/access_request")

    def signed(self, root: str, count: int) -> Load:
        """`count` signed payloads, each with an id and a body of its own, good for five minutes."""
        now_s = int(time.time())
        bodies = [
            sign_payload(
                self.signing_key,
                "es",
                _body(f"h{number}")
                | {"iat": now_s, "jti": secrets.token_urlsafe(16), "aud": INSTANCE},
            )
            for number in range(count)
        ]
        url = f"{root}/api/1.0/instances/{INSTANCE}/access_request"
        return Load(url, {"Content-Type": "application/jose"}, bodies, once=True)

    def _with_token(self, url: str) -> Load:
        token = mint_token(
            self.token_key, sub="bench", now_s=time.time(), ttl_s=TOKEN_TTL_S, kid="rs"
        )
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return Load(url, headers, [msgspec.json.encode(_body("h1"))])


async def drive_lane(store: Store, seconds: float) -> Sample:
    """Send batches of BATCH requests straight into the lane, each when the one before is answered.

    `cpu_us` is this process's processor time per request.
    """
    index = await store.catalogues.read(INSTANCE)
    if index is None:
        raise CaseFailed(f"The instance {INSTANCE} is gone")
    wants = tuple(Want(name, "1.0", 1) for name in FEATURES)
    request = AccessRequest(host=Host("string", "h1"), wants=wants, incremental=True)
    resolved, meaning = index.resolve(request), fingerprint(request).hex()

    def job() -> Job:
        name, host = secrets.token_urlsafe(16), request.host.canonical
        return Job(index, resolved, name, OWN_ID_TTL_MS, meaning, "", host, INCREMENTAL)

    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    count = 0
    began_s, began_cpu_s = loop.time(), time.process_time()
    while loop.time() < began_s + seconds:
        sent_s = loop.time()
        replies = await asyncio.gather(*(store.lane.submit(job()) for _ in range(BATCH)))
        latencies.append((loop.time() - sent_s) * 1000)
        if any(reply.verdict is not Verdict.DONE for reply in replies):
            raise CaseFailed("The lane did not apply what was sent")
        count += BATCH
    took_s, took_cpu_s = loop.time() - began_s, time.process_time() - began_cpu_s
    latencies.sort()
    return Sample(
        requests=count,
        seconds=took_s,
        errors=0,
        p50_ms=percentile(latencies, 0.5),
        p99_ms=percentile(latencies, 0.99),
        cpu_us=took_cpu_s / count * 1e6,
    )


def _body(host: str) -> dict[str, object]:
    return {
        "hostId": {"type": "string", "value": host},
        "features": [{"name": name, "version": "1.0", "count": 1} for name in FEATURES],
        "incremental": True,
        "partial": False,
    }
