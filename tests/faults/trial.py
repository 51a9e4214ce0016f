"""A trial of a store of several servers: three gateways on it, an upstream, and clients at work.

Decided here: how they stand together, and what must be true whatever is done to the store: only
answers and 503s, by gateways that were never started again and are all found back, records that
agree, and a store that knows every id that was answered. Not decided here: what clients do
(watched_load.py), what is done to the store (test_sentinel_trials.py, test_sentinel_cuts.py,
test_cluster_trials.py), what must agree (tests/stores/journal.py).
"""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import MappingProxyType

from gateway.core.fingerprint import dedupe_id
from gateway.core.keys import public_pem
from gateway.store.keys import InstanceKeys
from tests.faults.checker import Kind
from tests.faults.fleet import ASKED_S_MAX, UPSTREAM, Instance, drawn_seed
from tests.faults.fleet_load import Load
from tests.faults.fleet_replica import Replica
from tests.faults.fleet_requests import PAYLOAD_KEY, PAYLOAD_KID, TOKEN_KEY, TOKEN_KID, Told
from tests.faults.ledger import FILES
from tests.faults.scene import until
from tests.faults.sites import KEY_FILES, HttpSite
from tests.faults.watched_load import ANSWERED, Watch, WatchedLoad
from tests.faults.works import Upstream
from tests.stores import journal
from tests.stores.programs import start_all
from tests.stores.servers import Server
from tests.system.processes import COMMAND, clean_environ

GATEWAYS = tuple(f"gateway-{number}" for number in range(3))
PARTITIONS = 16
CLIENTS = 3  # of each instance
DEADLINE_MS = 1_000
PLENTY = 10**9
TIGHT = 400  # units of the line that is used up in the course of a trial
LAG_MS = 2_000  # of a replica behind its primary, on a busy machine
REPLAYED = 4  # answered ids of an instance that are sent to every gateway again in the end
DRAINED_S_MAX = 120.0
ENDINGS = {ANSWERED, "503 not_applied", "503 applied_not_durable", "503 unknown"}
SETTINGS = """
[redis]
url = "{url}"
partitions = {partitions}
ack = "{ack}"
ack_replicas = {replicas}
deadline_ms = {deadline_ms}
[forward]
interval = "1s"
timeout_s = 2
[signing]
key_file = "{directory}/signing.pem"
"""

# From and to, ms since 1970: when an answer was not safe, as the documents have it. A replica lags
# behind besides.
Window = tuple[int, int]


@dataclass
class Trial(Watch):
    """Everything of a trial. `server_of` says which server has a key now.

    `silences_s`: for how long, from each fault on, none of those was served who may have been hit,
    by the fault's name.
    """

    name: str
    seed: int
    directory: Path
    gateways: Sequence[Replica]
    site: HttpSite
    server_of: Callable[[str], Server]
    silences_s: list[tuple[str, float]] = field(default_factory=list)

    def dice(self) -> random.Random:
        """Give dice for what is done to the store; they fall alike for one seed."""
        return random.Random(f"{self.name} {self.seed}")  # noqa: S311 (to be repeatable)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Let clients work within; all instances are served when it begins."""
        async with AsyncExitStack() as stack:
            for load in self.loads.values():
                await stack.enter_async_context(load.working(CLIENTS))
            await self.served()
            feeling = asyncio.create_task(self.feel_stalls())
            try:
                yield
            finally:
                feeling.cancel()
                with suppress(asyncio.CancelledError):
                    await feeling

    @asynccontextmanager
    async def fault(self, name: str, *hit: str) -> AsyncIterator[float]:
        """Do something to the store within; gives the moment. Then wait until those instances are
        served that may have been hit, by default all.
        """
        since_s = time.monotonic()
        yield since_s
        await self.served(*hit)
        self.silences_s.append((name, self.silence_s(since_s, *hit)))

    async def judge(self, *windows_ms: Window) -> journal.Verdict:
        """Have everything answered and forwarded, hold all records against all, print figures.

        Within `windows_ms` an answer promised less than that nothing is lost; then what is lost is
        counted, and nothing is said of the upstream, which may know of more than the store.
        """
        windows = [(first - LAG_MS, end + LAG_MS) for first, end in windows_ms]
        await asyncio.gather(*(load.settle() for load in self.loads.values()))
        forgotten = await asyncio.to_thread(self._forgotten)
        first_ms = min((first for first, _ in windows), default=sys.maxsize)
        await asyncio.gather(*(_replay(load, first_ms) for load in self.loads.values()))
        if not windows_ms:
            for instance in self.loads:  # what time does to a lease of which nobody knows the owner
                lease = InstanceKeys(instance, PARTITIONS).lease
                await asyncio.to_thread(
                    self.server_of(lease).ask, "DEL", lease, answer_s_max=ASKED_S_MAX
                )
            await until(lambda: not any(map(self._waits, self.loads)), DRAINED_S_MAX)
        verdict = await asyncio.to_thread(self._verdict, windows)
        endings = sum((load.endings for load in self.loads.values()), Counter[str]())
        told = ", ".join(f"{word}: {number:,}" for word, number in sorted(endings.items()))
        lost = _told_of(forgotten, windows_ms)
        print(f"{verdict.figures}{lost}; served again {self._silences} [{told}]")
        # Not the sums alone agree: every id that was answered is known, but for those in windows.
        astray = [str(told) for told in forgotten if not _within(told, windows)]
        oddities = [oddity for load in self.loads.values() for oddity in load.oddities]
        amiss = [*astray, *oddities, *(endings.keys() - ENDINGS)]
        assert not amiss, "\n".join(amiss)
        assert verdict.units(Kind.LOST) == sum(sum(told.granted.values()) for told in forgotten)
        for gateway in self.gateways:
            assert gateway.running, gateway.log_tail
            assert "Traceback" not in gateway.log, gateway.log
        return verdict

    @property
    def _silences(self) -> str:
        """Tell how long the faults of each name lasted: the median, and the longest of several."""
        by_name: dict[str, list[float]] = {}
        for name, silence_s in self.silences_s:
            by_name.setdefault(name, []).append(silence_s)
        told = []
        for name, spans_s in by_name.items():
            most = f", at most {max(spans_s):.1f} s, {len(spans_s)} times" * (len(spans_s) > 1)
            told.append(f"{median(spans_s):.1f} s after {name}{most}")
        return "; ".join(told)

    def _verdict(self, windows_ms: list[Window]) -> journal.Verdict:
        drained = not windows_ms
        run = journal.Run(
            name=self.name,
            seed=self.seed,
            faults=len(self.silences_s),
            drained=drained,
            capacity={instance: {_tight(instance): TIGHT} for instance in self.loads},
            windows_ms=windows_ms,
            upstreams={UPSTREAM: journal.Upstream(by=self.site.by)} if drained else {},
        )
        records = self.directory / "records"
        kept = records / journal.UPSTREAMS_DIR / UPSTREAM
        kept.mkdir(parents=True)
        for ledger in map(self.site.upstream.directory.joinpath, FILES.values()):
            if ledger.exists():
                shutil.copy(ledger, kept)
        books = _command(self.directory, "verify", "--deep", "--format", "json")
        journal.write_run(records, run, books)
        return journal.judge(records)

    def _forgotten(self) -> list[Told]:
        """Give the answers that the store knows nothing of."""
        forgotten = []
        for instance, load in self.loads.items():
            keys = InstanceKeys(instance, PARTITIONS)
            with self.server_of(keys.lease).client(ASKED_S_MAX) as client:
                pipeline = client.pipeline(transaction=False)
                for ask in load.answered:
                    pipeline.exists(keys.outcome(dedupe_id(instance, ask.id)))
                known = pipeline.execute()
            for ask, is_known in zip(load.answered, known, strict=True):
                if ask.told is not None and not is_known:
                    forgotten.append(ask.told)
        return forgotten

    def _waits(self, instance: str) -> bool:
        """Whether anything of an instance is not forwarded yet, as far as one can tell."""
        keys = InstanceKeys(instance, PARTITIONS)
        waiting = keys.open(UPSTREAM), keys.sealed(UPSTREAM)
        return self.server_of(keys.ledger).try_ask("EXISTS", *waiting) != 0


@asynccontextmanager
async def open_trial(
    name: str,
    directory: Path,
    url: str,
    server_of: Callable[[str], Server],
    instances: Sequence[str],
    *,
    ack: str,
    replicas: int = 1,
    own_urls: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Trial]:
    """Set a trial over an empty store.

    Each gateway says on its connections to the store which one of GATEWAYS it is. `own_urls`: by
    which URL one of them finds the store, where it is not `url`.
    """
    seed = drawn_seed()
    _write_keys(directory)
    async with AsyncExitStack() as work:
        stack = work.enter_context(ExitStack())
        site = HttpSite(UPSTREAM, "cloudevents", "line", "24h", Upstream(directory / UPSTREAM))
        stack.callback(site.close)
        told = {"partitions": PARTITIONS, "ack": ack, "replicas": replicas}
        told |= {"deadline_ms": DEADLINE_MS, "directory": directory}
        settings = SETTINGS.format(url="{url}", **told) + site.toml()
        (directory / "gateway.toml").write_text(settings.replace("{url}", url))
        provisioned = [
            Instance(each, {f"{each}-much": PLENTY, _tight(each): TIGHT}) for each in instances
        ]
        (directory / "trial.toml").write_text("".join(each.toml for each in provisioned))
        gateways = []
        for gateway in GATEWAYS:
            own_url = f"{own_urls.get(gateway, url)}?client_name={gateway}"
            own = settings.replace("{url}", own_url)
            gateways.append(Replica(directory / gateway, own, COMMAND[:3], {}))
        await asyncio.gather(
            asyncio.to_thread(_command, directory, "apply", str(directory / "trial.toml")),
            asyncio.to_thread(start_all, gateways, stack),
        )
        records = directory / "records"
        records.mkdir()
        urls = [gateway.url for gateway in gateways]
        loads = {each.id: WatchedLoad(records, urls, each, seed) for each in provisioned}
        for load in loads.values():
            await work.enter_async_context(load)
        yield Trial(loads, name, seed, directory, gateways, site, server_of)


def have_back(servers: Sequence[Server]) -> None:
    """Have servers back that a test left away which failed."""
    for server in servers:
        if server.paused:
            server.wake()
        if not server.running:
            server.start()


def now_ms() -> int:
    """Give this moment, as windows have it."""
    return time.time_ns() // 1_000_000


def _write_keys(directory: Path) -> None:
    for name, pem in KEY_FILES.items():
        (directory / name).write_bytes(pem)
    for kid, key in ((TOKEN_KID, TOKEN_KEY), (PAYLOAD_KID, PAYLOAD_KEY)):
        (directory / f"{kid}.pem").write_bytes(public_pem(key.public_key()))


def _command(directory: Path, *words: str) -> bytes:
    """Run a command over the trial's store to its end, and give what it printed."""
    told = ["--config", str(directory / "gateway.toml"), "--data-dir", str(directory)]
    ended = subprocess.run(
        [*COMMAND, *words, *told], env=clean_environ(), capture_output=True, check=False
    )
    assert ended.returncode == 0, ended.stderr.decode()
    return ended.stdout


async def _replay(load: Load, first_ms: int) -> None:
    """Have some of what was answered before a moment answered again."""
    load.answered = [ask for ask in load.answered if ask.told and ask.told.at_ms < first_ms]
    await load.replay(load.urls, REPLAYED)


def _within(told: Told, windows: Sequence[Window]) -> bool:
    return any(first <= told.at_ms <= end for first, end in windows)


def _told_of(lost: Sequence[Told], windows: Sequence[Window]) -> str:
    """Tell when what is lost was answered: how long after its window began, or before."""
    after_ms = [
        told.at_ms - first
        for told in lost
        for first, end in windows
        if _within(told, [(first - LAG_MS, end + LAG_MS)])
    ]
    if not after_ms:
        return ""
    span = f"from {min(after_ms) / 1000:+.2f} s to {max(after_ms) / 1000:+.2f} s"
    return f"; lost: {len(lost):,} answers, {span} of the fault"


def _tight(instance: str) -> str:
    return f"{instance}-tight"
