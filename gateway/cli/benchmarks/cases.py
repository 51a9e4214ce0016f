"""The cases: what is measured in turn, round by round, and in which place.

Decided here: the table of cases. Not decided here: what the loads are (scene.py), where they go
(plant.py), what the figures are held against (targets.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import httpx

from gateway.cli.benchmarks import bare
from gateway.cli.benchmarks.empty import PATH
from gateway.cli.benchmarks.generator import Generator
from gateway.cli.benchmarks.loads import CONNECTIONS, Load, Sample, requests
from gateway.cli.benchmarks.plant import (
    EMPTY,
    FEW_INSTANCES,
    GATEWAY,
    LOCAL,
    MANY,
    PLAIN,
    SECOND,
    Place,
    Plant,
)
from gateway.cli.benchmarks.scene import BATCH_LINES, INSTANCE, CaseFailed, numbered

WARM_UP_S: Final = 1.0
MANY_WARM_UP_S: Final = 10.0  # until the catalogues that are asked for most are known
FEW_CONNECTIONS: Final = 8
BATCH_CONNECTIONS: Final = 4
MORE_CONNECTIONS: Final = 64
SPARE: Final = 2.0  # how many times more signed bodies are made than any round needed
SIGNED_PER_S_FIRST: Final = 6_000  # before one has shown how many are needed

Loader = Callable[["Bench", str, float], Load]


@dataclass
class Bench:
    """What a round is run with; `signed_per_s` is the most that a round of each case came to."""

    plant: Plant
    generator: Generator
    signed_per_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """A load on a place; `each` is how many access requests are in an HTTP request of it.

    Without `load` it is the script alone, called over the place's store.
    """

    name: str
    place: str
    load: Loader | None
    each: int = 1
    warm_up_s: float = WARM_UP_S

    async def run(self, bench: Bench, seconds: float) -> Sample:
        """Measure one round. Raises Missing, LoadFailed, CaseFailed or what the store raises."""
        place = await bench.plant.place(self.place)
        if self.load is None:
            return await bare.drive(place, seconds)
        load = self.load(bench, place.url, seconds)
        sample = await bench.generator.run(load, seconds, place.pid, place.store_pid)
        # The most that any round needed: one that was disturbed tells nothing of the next.
        bench.signed_per_s[self.name] = max(sample.rate, bench.signed_per_s.get(self.name, 0.0))
        return sample

    async def prove(self, bench: Bench) -> None:
        """See that one request is granted, lest refusals be measured. Raises CaseFailed."""
        place = await bench.plant.place(self.place)
        if self.load is not None and self.place not in (EMPTY, PLAIN):
            await _prove(self.load(bench, place.url, 0.0), place)


def _empty(connections: int) -> Loader:
    return lambda bench, root, _: bench.plant.scene.empty(root, PATH, connections)


def _token(connections: int) -> Loader:
    return lambda bench, root, _: bench.plant.scene.token(root, connections)


def _signed(name: str, alg: str) -> Loader:
    def load(bench: Bench, root: str, seconds: float) -> Load:
        # Made before the clock starts; the generator sends no body twice, or the round is void.
        per_s = bench.signed_per_s.get(name, SIGNED_PER_S_FIRST) if seconds else 0
        return bench.plant.scene.signed(root, alg, int(per_s * SPARE * (seconds + 1)) or 1)

    return load


def _batches(bench: Bench, root: str, _: float) -> Load:
    return bench.plant.scene.batches(root, [INSTANCE], BATCH_LINES, BATCH_CONNECTIONS, zipf=False)


def _spread(many: bool) -> Loader:
    def load(bench: Bench, root: str, _: float) -> Load:
        instances = numbered(bench.plant.instances if many else FEW_INSTANCES)
        return bench.plant.scene.spread(root, instances)

    return load


EMPTY_POST: Final = "empty POST"
EMPTY_OURS: Final = "empty POST, our connections"
TOKEN: Final = "token"  # noqa: S105 - a name
ES256: Final = "signed ES256"
EDDSA: Final = "signed EdDSA"
BATCH: Final = f"batch of {BATCH_LINES:,}"
SCRIPT: Final = "script alone"
ON_GRANIAN: Final = "token, granian"
FEW: Final = f"token, {FEW_INSTANCES} instances"
THOUSANDS: Final = "token, 100,000 instances"
EMPTY_FEW: Final = f"empty POST, {FEW_CONNECTIONS} connections"
TOKEN_FEW: Final = f"token, {FEW_CONNECTIONS} connections"
WRITTEN: Final = f"token, {MORE_CONNECTIONS} connections"
ON_DISK: Final = f"token, {MORE_CONNECTIONS} connections, ack local"

CASES: Final[dict[str, Case]] = {
    case.name: case
    for case in (
        Case(EMPTY_POST, PLAIN, _empty(CONNECTIONS)),
        Case(EMPTY_OURS, EMPTY, _empty(CONNECTIONS)),
        Case(TOKEN, GATEWAY, _token(CONNECTIONS)),
        Case(ES256, GATEWAY, _signed(ES256, "ES256")),
        Case(EDDSA, GATEWAY, _signed(EDDSA, "EdDSA")),
        Case(BATCH, GATEWAY, _batches, each=BATCH_LINES),
        Case(SCRIPT, GATEWAY, None),
        Case(ON_GRANIAN, SECOND, _token(CONNECTIONS)),
        Case(FEW, GATEWAY, _spread(many=False)),
        Case(THOUSANDS, MANY, _spread(many=True), warm_up_s=MANY_WARM_UP_S),
        Case(EMPTY_FEW, PLAIN, _empty(FEW_CONNECTIONS)),
        Case(TOKEN_FEW, GATEWAY, _token(FEW_CONNECTIONS)),
        Case(WRITTEN, GATEWAY, _token(MORE_CONNECTIONS)),
        Case(ON_DISK, LOCAL, _token(MORE_CONNECTIONS)),
    )
}


async def _prove(load: Load, place: Place) -> None:
    request = next(requests(load))
    head, _, body = request.partition(b"\r\n\r\n")
    path = head.split()[1].decode()
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        answer = await client.post(place.url + path, headers=load.headers, content=body)
    told = answer.text
    granted = told.count('"statusList":[]') == max(1, load.lines)
    if answer.status_code != 200 or not granted:
        raise CaseFailed(f"A request of the benchmark was not granted: {told[:300]}")
