"""The scene: keys, what is provisioned with them, and the loads that are granted there.

Decided here: metered lines that never run out, two features per request, an id and a body of its
own for each signed request, and for each line of a batch. Usage waits for an upstream that nobody
forwards to, as in earnest between two intervals. Not decided here: when which load is sent
(cases.py).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from gateway.cli.benchmarks.loads import CONNECTIONS, SEED_MAX, Load
from gateway.core.errors import GatewayError
from gateway.core.keys import PrivateKey, generate, public_der
from gateway.core.model import UNITS_MAX, Attachment, Catalogue, Key, Line, Model
from gateway.core.tokens import mint_token, sign_payload
from gateway.store.catalogues import Catalogues

INSTANCE: Final = "BENCH"
FEATURES: Final = ("sessions", "users")  # of one request
LINES: Final = (*FEATURES, "pages")  # of one instance
UPSTREAM: Final = "nowhere"
BATCH_LINES: Final = 1_000
ZIPF_S: Final = 1.1
TOKEN_TTL_S: Final = 86_400
COPIED: Final = 1_000  # instances in one go
JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
JOSE: Final = "application/jose"
SIGNING: Final = ("ES256", "EdDSA")


class CaseFailed(GatewayError):
    """What was measured did not do what it should."""


@dataclass(frozen=True)
class Scene:
    """Keys of one benchmark, and the loads made with them. All instances have the same keys."""

    token_key: PrivateKey = field(default_factory=lambda: generate("RS256"))
    signing_keys: dict[str, PrivateKey] = field(
        default_factory=lambda: {alg: generate(alg) for alg in SIGNING}
    )

    def catalogue(self, instance: str = INSTANCE, *, signed: bool = True) -> Catalogue:
        """Give an instance of three lines, with a key for tokens and those for signed payloads."""
        keys = {"RS256": self.token_key} | (self.signing_keys if signed else {})
        return Catalogue(
            id=instance,
            lines=tuple(metered(f"L{at}", name) for at, name in enumerate(LINES, 1)),
            keys=tuple(Key(alg, alg, public_der(key.public_key())) for alg, key in keys.items()),
            upstreams=(Attachment(UPSTREAM),),
        )

    def empty(self, root: str, path: str, connections: int = CONNECTIONS) -> Load:
        """The same bytes as `token`, to a server that only reads them."""
        return self._by_token(root, [path], [_body("h1")], connections)

    def token(self, root: str, connections: int = CONNECTIONS) -> Load:
        """A bearer token and one body: as a fleet does it that sends no ids."""
        return self.empty(root, _path(INSTANCE), connections)

    def spread(self, root: str, instances: Iterable[str]) -> Load:
        """As `token`, to many instances; the first of them is asked most."""
        load = self._by_token(root, [_path(each) for each in instances], [_body("h1")], CONNECTIONS)
        return msgspec.structs.replace(load, zipf_s=ZIPF_S, seed=_seed())

    def batches(
        self, root: str, instances: Iterable[str], lines: int, connections: int, *, zipf: bool
    ) -> Load:
        """Batches of requests with an id each, to instances in turn or as `spread` picks them."""
        before, _, after = _body("h1", correlationId="|").partition(b"|")
        paths = [_path(each, "access_requests") for each in instances]
        load = self._by_token(root, paths, [before, after], connections, NDJSON)
        return msgspec.structs.replace(
            load, zipf_s=ZIPF_S if zipf else 0.0, lines=lines, seed=_seed()
        )

    def signed(self, root: str, alg: str, count: int) -> Load:
        """`count` signed payloads, each with an id and a body of its own, good for five minutes."""
        now_s = int(time.time())
        bodies = [
            sign_payload(
                self.signing_keys[alg],
                alg,
                _members(f"h{number}")
                | {"iat": now_s, "jti": secrets.token_urlsafe(16), "aud": INSTANCE},
            )
            for number in range(count)
        ]
        headers = {"Content-Type": JOSE}
        return Load(root=root, paths=[_path(INSTANCE)], headers=headers, bodies=bodies, once=True)

    def _by_token(
        self, root: str, paths: list[str], bodies: list[bytes], connections: int, kind: str = JSON
    ) -> Load:
        token = mint_token(
            self.token_key, sub="bench", now_s=time.time(), ttl_s=TOKEN_TTL_S, kid="RS256"
        )
        return Load(
            root=root,
            paths=paths,
            headers={"Authorization": f"Bearer {token}", "Content-Type": kind},
            bodies=bodies,
            connections=connections,
        )


def metered(line: str, feature: str, model: Model = Model.METERED) -> Line:
    """Give a line that never runs out."""
    uncounted = model is Model.METERED
    return Line(
        id=line,
        feature=feature,
        version="1.0",
        model=model,
        count=None if uncounted else UNITS_MAX,
        capacity=UNITS_MAX,
    )


def numbered(count: int) -> list[str]:
    """Name so many instances."""
    return [f"{INSTANCE}-{number:06d}" for number in range(count)]


async def copy_to(catalogues: Catalogues, like: Catalogue, instances: Sequence[str]) -> None:
    """Write an instance that is there under further names, as what was written of it: a
    transaction for each of a hundred thousand would take a minute.
    """
    client, model = catalogues.client, catalogues.keys(like.id)
    found: Any = await client.hmget(model.cat, ["version", "blob"])
    version, blob = found
    known = msgspec.msgpack.decode(blob, type=Catalogue)
    for start in range(0, len(instances), COPIED):
        pipeline = client.pipeline(transaction=False)
        for instance in instances[start : start + COPIED]:
            keys = catalogues.keys(instance)
            text = msgspec.msgpack.encode(msgspec.structs.replace(known, id=instance))
            pipeline.hset(keys.cat, mapping={"version": version, "blob": text})
            pipeline.sadd(keys.instances, instance)
        await pipeline.execute()


def _path(instance: str, door: str = "access_request") -> str:
    return f"/api/1.0/instances/{instance}/{door}"


def _seed() -> int:
    return 1 + secrets.randbelow(SEED_MAX)


def _members(host: str) -> dict[str, object]:
    return {
        "hostId": {"type": "string", "value": host},
        "features": [{"name": name, "version": "1.0", "count": 1} for name in FEATURES],
        "incremental": True,
        "partial": False,
    }


def _body(host: str, **more: str) -> bytes:
    return msgspec.json.encode(_members(host) | more)
