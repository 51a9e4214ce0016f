"""The vectors of LicenseSpring clients over real HTTP: one server, one instance, anew for each.

The transaction time is the vectors'. Signatures are verified by arithmetic of our own, with the
chain that the gateway made.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.licensespring.signatures import Rsa, problems_of, read_chain
from tests.vectors.loader import (
    Played,
    Step,
    Vector,
    applied,
    judge_body,
    judge_counters,
    play,
    vectors,
)
from tests.vectors.served import Served, serving
from tests.vectors.test_vectors_http import Player

INSTANCE = "FLOATING"
DIRECTORY = Path(__file__).parent / "licensespring"
VECTORS = vectors(DIRECTORY)


@dataclass(frozen=True)
class Site:
    """The gateway and the public key of its leaf certificate."""

    served: Served
    leaf: Rsa


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("licensespring")
    with serving(directory, LICENSESPRING__INSTANCE=INSTANCE) as served:
        chain = read_chain((directory / "licensespring-chain.pem").read_text())
        assert problems_of(chain) == []
        yield Site(served, chain[0].key)


class FloatingPlayer(Player):
    """One vector being played at the instance of floating clients."""

    def __init__(self, site: Site) -> None:
        super().__init__(site.served)
        self.site = site
        self.ids = {"own": INSTANCE}

    async def begin(self) -> None:
        """Forget all that was counted and asked, and provision the instance as it was."""
        keys = self.served.catalogues.keys(INSTANCE)
        kept = {keys.cat.encode(), *(each.encode() for each in (keys.instances, keys.lease))}
        for pattern in (f"{keys.prefix}*", f"gw:{keys.tag}:d:*"):
            for key in await self.served.store.keys(pattern):
                if key not in kept:
                    await self.served.store.delete(key)
        await self.put(INSTANCE)

    async def judge(self, played: Played) -> list[str]:
        step, expect = played.step, played.step.expect
        await self.served.set_clock(played.at_ms)
        answer = await self._sent(step)
        if answer.status_code != expect.status:
            return [f"status: expected {expect.status}, was {answer.status_code}: {answer.text}"]
        found = judge_body(expect, answer.content)
        found += [
            f"{name}: expected {value}, was {answer.headers.get(name)}"
            for name, value in expect.headers.items()
            if answer.headers.get(name) != value
        ]
        if expect.replayed != (answer.headers.get("Idempotency-Replayed") == "true"):
            found.append(f"replayed: expected {expect.replayed}")
        found += self._signature(step, answer.headers.get("LicenseSignature"), answer.content)
        if expect.same_as and self.bodies[expect.same_as][0] != answer.content:
            found.append(f"expected {self.bodies[expect.same_as]!r} again, was {answer.content!r}")
        if step.name:
            self.bodies[step.name] = (answer.content, None)
        return found + judge_counters(played, self.index, await self.seen())

    async def _sent(self, step: Step) -> httpx.Response:
        headers = dict(step.headers)
        if step.body:
            headers.setdefault("Content-Type", "application/json")
        return await self.served.http.request(
            step.method, step.path, headers=headers, content=step.body_bytes or None
        )

    def _signature(self, step: Step, sent: str | None, content: bytes) -> list[str]:
        if not step.expect.signed:
            return [] if sent is None else ["signed: was not expected to be"]
        if sent is None:
            return ["signed: LicenseSignature is missing"]
        verified = self.site.leaf.verifies(base64.b64decode(sent, validate=True), content)
        return [] if verified else ["signed: not over this body"]


@pytest.mark.parametrize("vector", VECTORS.values(), ids=lambda vector: vector.id)
def test_gateway_answers_a_floating_client_as_the_vector_says(vector: Vector, site: Site) -> None:
    async def played() -> None:
        player = FloatingPlayer(site)
        steps = list(play(vector))
        await site.served.set_clock(steps[0].at_ms)
        await player.begin()
        for number, each in enumerate(steps):
            found = await player.judge(each)
            assert not found, (vector.says, f"step {number}", found)

    site.served.run(played())


def test_each_body_of_a_floating_vector_is_what_its_comment_shows() -> None:
    for vector in VECTORS.values():
        for step in vector.steps:
            assert base64.b64encode(step.body_text.encode()).decode() == step.body, vector.id


def test_ids_of_floating_vectors_are_no_other_vectors() -> None:
    assert not VECTORS.keys() & vectors().keys()
    assert applied(INSTANCE, INSTANCE).id == INSTANCE
