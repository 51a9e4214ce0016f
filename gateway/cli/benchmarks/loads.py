"""A load: what is sent to a server in one round, by whatever generator there is.

Decided here: which shapes of load there are (bodies in turn, paths in turn or picked unevenly,
batches whose lines are made as they are sent) and what a round of one comes to. Not decided here:
what the bodies say (scene.py) and who sends them (wrk.py, client.py).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import accumulate, count, cycle, islice
from typing import Final
from urllib.parse import urlsplit

import msgspec

CONNECTIONS: Final = 32
SEED_MAX: Final = 2**31 - 1
_PICKS: Final = 1_000  # picked at a time


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent to the server at `root`, over so many connections, one request on each.

    Several bodies go to the one path, or one body goes to several paths. `once`: no body is sent
    twice. `zipf_s`: the path at place n is picked n**-zipf_s times as often as the first; 0: all
    in turn, from place `first` on. `lines`: of a batch, each made of the two bodies around an id
    that begins with `seed` and never comes again; 0: no batches.
    """

    root: str
    paths: Sequence[str]
    headers: dict[str, str]
    bodies: Sequence[bytes]
    connections: int = CONNECTIONS
    once: bool = False
    zipf_s: float = 0.0
    first: int = 0
    lines: int = 0
    seed: int = 1

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.root)
        return parts.hostname or "", parts.port or 80


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What one round came to. Latencies in ms; `errors` counts answers that are not 200."""

    requests: int
    seconds: float
    errors: int
    p50_ms: float
    p99_ms: float
    cpu_us: float = 0.0  # of the server, per request
    store_us: float = 0.0  # of its store, per request

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


def percentile(sorted_ms: Sequence[float], share: float) -> float:
    """Give the value that `share` of a sorted list does not exceed; 0 for an empty list."""
    return sorted_ms[min(len(sorted_ms) - 1, int(len(sorted_ms) * share))] if sorted_ms else 0.0


def spell(load: Load, path: str, body: bytes) -> bytes:
    """Write one request as HTTP/1.1."""
    host = urlsplit(load.root).netloc
    head = {"Host": host, "Content-Length": str(len(body))} | load.headers
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def requests(load: Load) -> Iterator[bytes]:
    """Give the requests of a load, one after the other; without end unless each goes `once`."""
    if load.lines:
        ids = count(1)
        for path in _places(load):
            yield spell(load, path, _batch(load, ids))
        return
    if load.once:
        for body in load.bodies:
            yield spell(load, load.paths[0], body)
        return
    if len(load.paths) == 1:
        yield from cycle([spell(load, load.paths[0], body) for body in load.bodies])
    for path in _places(load):
        yield spell(load, path, load.bodies[0])


def _places(load: Load) -> Iterator[str]:
    if not load.zipf_s:
        yield from islice(cycle(load.paths), load.first % len(load.paths), None)
    chance = random.Random(load.seed)  # noqa: S311 - a pick of load, no secret
    weights = list(accumulate(place**-load.zipf_s for place in range(1, len(load.paths) + 1)))
    while True:
        yield from chance.choices(load.paths, cum_weights=weights, k=_PICKS)


def _batch(load: Load, ids: Iterator[int]) -> bytes:
    before, after = load.bodies
    seed = b"%d-" % load.seed
    return b"\n".join(before + seed + b"%d" % next(ids) + after for _ in range(load.lines))
