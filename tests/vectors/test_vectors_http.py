"""The vectors over real HTTP: one server and one store for all, an instance of its own for each.

The transaction time is the vectors', by the clock of the scripts; credentials live in real time.
What the codec's runner sees in the ledger's state is looked up here in the store.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import msgspec
import pytest

from gateway.core.catalogue import CatalogueIndex
from gateway.core.model import Catalogue
from tests.store.redis_server import DURABLE, redis_server
from tests.vectors.credentials import attach, keys_of
from tests.vectors.loader import (
    Played,
    Seen,
    Step,
    Vector,
    applied,
    chosen,
    difference,
    given,
    judge_body,
    judge_counters,
    play,
)
from tests.vectors.served import Served, serving

_numbers = itertools.count(1)
_SIGNED_MEMBERS = ("iat", "instanceId", "requestId")


@pytest.fixture(scope="module", params=["embedded", pytest.param("redis", marks=pytest.mark.slow)])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A gateway over the bundled Valkey, and over the oldest Redis that is taken."""
    directory = tmp_path_factory.mktemp("vectors")
    if request.param == "embedded":
        with serving(directory) as opened:
            yield opened
        return
    with (
        redis_server(directory / "store", *DURABLE) as url,
        serving(directory, REDIS__URL=url) as opened,
    ):
        yield opened


class Player:
    """One vector being played."""

    def __init__(self, served: Served) -> None:
        number = next(_numbers)
        self.served = served
        self.ids = {name: f"{name}-{number}" for name in ("own", "other", "unknown")}
        self.bodies: dict[str, tuple[bytes, Any]] = {}
        self.index = CatalogueIndex(Catalogue(id=""))

    async def put(self, fixture: str, whose: str = "own") -> None:
        """Apply a file, with the keys of that instance, without telling the gateway."""
        catalogues = self.served.catalogues
        found = await catalogues.read(self.ids[whose])
        new = applied(fixture, self.ids[whose], found.catalogue if found else None)
        await catalogues.put(msgspec.structs.replace(new, keys=keys_of(whose)))
        if whose == "own":
            written = await catalogues.read(self.ids["own"])
            assert written is not None
            self.index = written

    async def judge(self, played: Played) -> list[str]:
        """Carry a step out and list what is not as expected."""
        step, expect = played.step, played.step.expect
        await self.served.set_clock(played.at_ms)
        if step.apply:
            await self.put(step.apply)
            return []
        answer = await self._asked(step)
        if answer.status_code != expect.status:
            return [f"status: expected {expect.status}, was {answer.status_code}: {answer.text}"]
        found = self._judge_headers(step, answer)
        body = answer.content
        if answer.status_code == 200 and step.endpoint == "signed_access_request":
            body, problems = await self._verified(step, answer)
            found += problems
        found += judge_body(expect, body)
        if expect.same_as:
            content, members = self.bodies[expect.same_as]
            # A signed answer repeats what it says, not the bytes of an unsigned one.
            same = body == content or (body is not answer.content and _members(body) == members)
            found += [] if same else [f"expected {content!r} again, was {body!r}"]
        if step.name:
            self.bodies[step.name] = (body, _members(body))
        return found + judge_counters(played, self.index, await self.seen())

    async def _asked(self, step: Step) -> httpx.Response:
        instance = self.ids.get(step.instance) or step.instance.replace("own", self.ids["own"])
        sent, body = attach(step.credential, step.claims, instance, step.body_bytes)
        sent |= step.headers
        pairs = [(k.encode(), v.encode("latin-1")) for k, v in sent.items() if v or k[0] == "I"]
        return await self.served.http.request(
            step.method,
            f"/api/1.0/instances/{instance}/{step.endpoint}",
            headers=pairs,
            content=body if step.method == "POST" else None,
        )

    def _judge_headers(self, step: Step, answer: httpx.Response) -> list[str]:
        expected: dict[str, Any] = dict(step.expect.headers)
        replayed = "true" if step.expect.replayed else None
        expected["Idempotency-Replayed"] = replayed
        if answer.status_code == 200:
            expected = {"Gateway-Request-Id": "*", "Gateway-Transaction-Time": "*"} | expected
            signed = step.endpoint == "signed_access_request"
            expected["Content-Type"] = f"application/{'jose' if signed else 'json'}"
        return [
            f"header {name}: expected {value!r}, was {answer.headers.get(name)!r}"
            for name, value in expected.items()
            if (answer.headers.get(name) is not None if value is None
                else difference(value, answer.headers.get(name), whole=True))
        ]  # fmt: skip

    async def _verified(self, step: Step, answer: httpx.Response) -> tuple[bytes, list[str]]:
        """Check a signed answer with the server's published key, and take off what signing adds."""
        published = (await self.served.http.get("/.well-known/jwks.json")).json()["keys"]
        keys = {key["kid"]: jwt.PyJWK(key) for key in published}
        header = jwt.get_unverified_header(answer.content)
        key = keys[header["kid"]]
        content = json.loads(jwt.api_jws.decode(answer.content, key.key, [key.algorithm_name]))
        request_id = step.expect.request_id or answer.headers["Gateway-Request-Id"]
        own = {"instanceId": self.ids["own"], "requestId": request_id}
        found = difference(own, content, whole=False, path="signed")
        found += [] if header["typ"] == "access-response+jws" else [f"typ: was {header['typ']}"]
        found += [] if type(content["iat"]) is int else ["iat is no integer"]
        plain = {name: value for name, value in content.items() if name not in _SIGNED_MEMBERS}
        return json.dumps(plain).encode(), found

    async def seen(self) -> Seen:
        """Look the counters up in the store."""
        store, keys = self.served.store, self.served.catalogues.keys(self.ids["own"])
        ledger = await store.hgetall(keys.ledger)
        holds = await store.hgetall(keys.holds)
        days: dict[tuple[str, int], int] = {}
        for month in await store.keys(f"{keys.prefix}days:*"):
            for name, units in (await store.hgetall(month)).items():
                line, day, kind = name.decode().split("|", 2)
                if kind == "u":
                    days[line, int(day)] = int(units)
        rows: dict[tuple[str, int], int] = {}
        for upstream in self.index.catalogue.upstreams:
            for name, units in (await store.hgetall(keys.open(upstream.name))).items():
                line, hour = name.decode().split("|")
                rows[line, int(hour)] = int(units)
        used = {_pair(name): int(units) for name, units in (await store.hgetall(keys.used)).items()}
        return Seen.of(
            used,
            {
                host.decode(): {line: count for line, count, *_ in msgspec.msgpack.decode(held)}
                for host, held in holds.items()
            },
            {
                name.decode().removeprefix("acked|"): int(units)
                for name, units in ledger.items()
                if name.startswith(b"acked|")
            },
            days,
            rows,
        )


def _pair(name: bytes) -> tuple[str, str]:
    line, _, label = name.decode().partition("|")
    return line, label


def _members(body: bytes) -> Any:
    """Decode JSON so that the order of members counts."""
    try:
        return json.loads(body, object_pairs_hook=list)
    except ValueError:
        return None


@pytest.mark.parametrize("vector", chosen(without="codec_only"), ids=lambda vector: vector.id)
def test_gateway_answers_a_vector_over_http_as_it_says(vector: Vector, served: Served) -> None:
    async def played() -> None:
        player = Player(served)
        steps = list(play(vector))
        await served.set_clock(steps[0].at_ms)
        await player.put(given(vector))
        if any(step.instance == "other" for step in vector.steps):
            await player.put("DEMO", "other")
        for number, each in enumerate(steps):
            found = await player.judge(each)
            assert not (each.own and found), (vector.says, f"step {number}", found)

    served.run(played())
