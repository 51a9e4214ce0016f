"""The upstreams of a run, by kind: what is configured for each, and who keeps its books.

Decided here: the kinds under test and their horizons. Not decided here: what an upstream does
(upstream.py, plan.py), how a spool's files are carried (carrier.py), what is done to them
(nemesis.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway.core.keys import generate, private_pem, public_pem
from tests.faults.carrier import Carrier, signed_by
from tests.faults.checker import Evidence
from tests.faults.works import Upstream

RSA = generate("RS256")
SIGNING = generate("EdDSA")
KEY_FILES: Mapping[str, bytes] = {
    "client.pem": private_pem(RSA),
    "signing.pem": private_pem(SIGNING),
}


class Site(Protocol):
    """One upstream of a run."""

    @property
    def name(self) -> str: ...

    def toml(self) -> str:
        """Give its table of the configuration."""

    def evidence(self, aside: dict[str, str]) -> Evidence:
        """Give what it knows; `aside` as in Evidence."""

    def close(self) -> None: ...


@dataclass
class HttpSite:
    """An upstream process. `kind` is the configuration's, `by` what its ledger counts by."""

    name: str
    kind: str
    by: str
    horizon: str
    upstream: Upstream

    def __post_init__(self) -> None:
        self.upstream.start()

    def toml(self) -> str:
        told = {"name": self.name, "kind": self.kind, "dedupe_horizon": self.horizon}
        if self.kind == "cmapi":
            told |= {"url": self.upstream.access_url, "key_file": "client.pem", "kid": "k"}
        else:
            told |= {"url": self.upstream.events_url}
        return _table(told)

    def evidence(self, aside: dict[str, str]) -> Evidence:
        return self.upstream.evidence(self.by, aside)

    def close(self) -> None:
        self.upstream.close()


@dataclass
class SpoolSite:
    """A spool on a stick, and the person who carries its files."""

    name: str
    stick: Path
    carrier: Carrier

    def toml(self) -> str:
        return _table({"name": self.name, "kind": "spool", "dir": str(self.carrier.spool)})

    def evidence(self, aside: dict[str, str]) -> Evidence:
        return self.carrier.evidence(aside)

    def close(self) -> None:
        self.carrier.close()

    def pull(self) -> None:
        """Take the stick out; what it holds is kept."""
        self.stick.rename(self._pulled)

    def plug(self) -> None:
        """Put the stick back."""
        self._pulled.rename(self.stick)

    def visit(self, *, everything: bool = False) -> None:
        """Take files over, if the stick is there and has any."""
        if self.carrier.spool.exists():
            self.carrier.look(everything=everything)

    @property
    def _pulled(self) -> Path:
        return self.stick.with_name(f"{self.stick.name}-pulled")


def _spool(directory: Path, seed: int) -> Site:
    stick = directory / "stick"
    stick.mkdir(parents=True)
    signed = signed_by(public_pem(SIGNING.public_key()))
    office = directory / "office"
    carrier = Carrier(stick / "spool", office, seed, moved=0.3, signed=signed)
    return SpoolSite("usb", stick, carrier)


def _http(
    name: str, kind: str, by: str, horizon: str, *, exact: bool = False, forgets: bool = False
) -> Callable[[Path, int], Site]:
    def build(directory: Path, _: int) -> Site:
        upstream = Upstream(directory / name, exact=exact, forgets=forgets)
        return HttpSite(name, kind, by, horizon, upstream)

    return build


# Each builds its site in a directory, from a seed.
KINDS: Mapping[str, Callable[[Path, int], Site]] = {
    "ours": _http("parent", "cmapi", "feature", "30d", exact=True),
    "foreign": _http("vendor", "cmapi", "feature", "0", forgets=True),
    "cloudevents": _http("meter", "cloudevents", "line", "24h"),
    "spool": _spool,
}


def _table(told: Mapping[str, str]) -> str:
    return "[[upstream]]\n" + "".join(f'{name} = "{text}"\n' for name, text in told.items())
