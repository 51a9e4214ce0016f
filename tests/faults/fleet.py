"""A fleet of a run: a store, three gateways on it behind HAProxy, all processes, and an upstream.

Decided here: how they stand together, what they are provisioned with, and how a run is judged while
they go on: by its journals, by what `verify --deep` prints and by the upstream's ledger. Not
decided here: what clients do (fleet_load.py), what is done to the fleet (test_fleet_*.py), what
must agree (tests/stores/journal.py). A fleet serves the tests of a file, each over an instance of
its own.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec

from gateway.core.keys import public_pem
from gateway.store.keys import InstanceKeys
from tests.faults.fleet_load import Load
from tests.faults.fleet_replica import Replica
from tests.faults.fleet_requests import PAYLOAD_KEY, PAYLOAD_KID, TOKEN_KEY, TOKEN_KID
from tests.faults.ledger import FILES, Accepted, Seen, read_entries
from tests.faults.sites import KEY_FILES, HttpSite
from tests.faults.works import Upstream
from tests.stores import journal
from tests.stores.byte_proxy import ByteProxy
from tests.stores.haproxy import HAProxy
from tests.stores.programs import start_all
from tests.stores.servers import Server
from tests.system.processes import clean_environ, eventually

REPLICAS = 3
PARTITIONS = 4
DEADLINE_MS = 6_000  # beyond what a machine stalls for
REPLAYED = 10  # answered ids that are sent to every gateway in the end
ASKED_S_MAX = 30.0  # until a store has answered a test
DRAINED_S_MAX = 120.0  # a lease may have to lapse, a breaker to close
COMMAND_S_MAX = 180.0
LOG_CHARS_MAX = 9_000
UPSTREAM = "meter"
SETTINGS = """
[redis]
url = "{url}"
partitions = {partitions}
ack = "{ack}"
deadline_ms = {deadline_ms}
[forward]
interval = "1s"
timeout_s = 2
[signing]
key_file = "{directory}/signing.pem"
"""


@dataclass(frozen=True)
class Instance:
    """What a test is about: metered lines, in `counts` by name; no two instances share a name.

    `more` is further TOML of a line, by its name. A feature has the name of its one line.
    """

    id: str
    counts: Mapping[str, int]
    timezone: str = "UTC"
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def toml(self) -> str:
        keys = "".join(
            f'[[instance.key]]\nkid = "{kid}"\nalg = "{alg}"\npublic_file = "{kid}.pem"\n'
            for kid, alg in ((TOKEN_KID, "RS256"), (PAYLOAD_KID, "EdDSA"))
        )
        lines = "".join(
            f'[[instance.line]]\nid = "{name}"\nfeature = "{name}"\nversion = "1.0"\n'
            f'model = "metered"\ncount = {count}\n{self.more.get(name, "")}\n'
            for name, count in self.counts.items()
        )
        head = f'[[instance]]\nid = "{self.id}"\ntimezone = "{self.timezone}"\n'
        return f'{head}[[instance.upstream]]\nname = "{UPSTREAM}"\n{keys}{lines}'


@dataclass
class Fleet:
    """Everything of a run but its clients. `proxy` is between the gateways and the store."""

    directory: Path
    store: Server
    proxy: ByteProxy
    site: HttpSite
    replicas: list[Replica]
    balancer: HAProxy
    instances: Mapping[str, Instance]
    program: Sequence[str]

    @property
    def urls(self) -> list[str]:
        """The gateways, past the balancer."""
        return [replica.url for replica in self.replicas]

    def load(self, instance: str, seed: int, *, direct: bool = False, **more: bool) -> Load:
        """Make clients of an instance, by the balancer or else `direct`; they begin as it is run.

        Their records begin anew. `more` is as Load takes it.
        """
        directory = self._records(instance)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        urls = self.urls if direct else [self.balancer.url]
        lines = list(self.instances[instance].counts)
        return Load(directory, urls, instance, lines, seed, **more)

    def command(self, *words: str) -> bytes:
        """Run a command to its end and give what it printed."""
        told = ["--config", str(self.directory / "gateway.toml")]
        ended = subprocess.run(
            [*self.program, *words, *told, "--data-dir", str(self.directory)],
            env=clean_environ(),
            capture_output=True,
            check=False,
            timeout=COMMAND_S_MAX,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def keys(self, instance: str) -> InstanceKeys:
        return InstanceKeys(instance, PARTITIONS)

    def lapse_leases(self, instance: str) -> None:
        """Do what time does to the lease of a gateway that was killed."""
        self.store.ask("DEL", self.keys(instance).lease, answer_s_max=ASKED_S_MAX)

    async def judge(
        self,
        row: str,
        load: Load,
        *,
        faults: int,
        capacity: Mapping[str, int] | None = None,
        memory_bytes: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        """Have all of a load answered, some of it again by every gateway; judge, print figures.

        Nothing is done to anybody any more. `capacity` of lines to which nothing was given back,
        and that have no periods; `memory_bytes` as in the journal's Run.
        """
        await load.settle()
        await load.replay(self.urls, REPLAYED)
        instance, directory = load.instance, self._records(load.instance)
        self.lapse_leases(instance)
        eventually(lambda: not self._waits(instance), DRAINED_S_MAX)
        run = journal.Run(
            name=row,
            seed=load.seed,
            faults=faults,
            drained=True,
            capacity={instance: dict(capacity or {})},
            memory_bytes=dict(memory_bytes or {}),
            upstreams={UPSTREAM: journal.Upstream(by=self.site.by)},
        )
        self._keep_ledger(instance, directory / journal.UPSTREAMS_DIR / UPSTREAM)
        books = self.command("verify", instance, "--format", "json", "--deep")
        journal.write_run(directory, run, books)
        verdict = journal.judge(directory)
        print(verdict.figures, f"[{load.figures}]")
        told = [replica.log for replica in self.replicas]
        tracebacks = [
            log[log.index("Traceback") :][:LOG_CHARS_MAX] for log in told if "Traceback" in log
        ]
        amiss = [*verdict.violations, *load.oddities, *tracebacks, self.site.upstream.log]
        assert not any(amiss), "\n".join(amiss)

    def _records(self, instance: str) -> Path:
        return self.directory / "records" / instance

    def _waits(self, instance: str) -> bool:
        """Whether anything of an instance is not forwarded yet."""
        keys = self.keys(instance)
        waiting = keys.open(UPSTREAM), keys.sealed(UPSTREAM)
        return bool(self.store.ask("EXISTS", *waiting, answer_s_max=ASKED_S_MAX))

    def _keep_ledger(self, instance: str, directory: Path) -> None:
        """Copy what the upstream knows of the lines of an instance, and every id it saw."""
        directory.mkdir(parents=True)
        counts = self.instances[instance].counts
        kept: dict[type[Accepted] | type[Seen], list[Accepted] | list[Seen]] = {
            Accepted: [e for e in self.site.upstream.accepted() if e.units.keys() <= counts.keys()],
            Seen: read_entries(self.site.upstream.directory, Seen),
        }
        for form, entries in kept.items():
            text = b"".join(msgspec.json.encode(asdict(each)) + b"\n" for each in entries)
            (directory / FILES[form]).write_bytes(text)


@contextmanager
def open_fleet(
    directory: Path,
    *instances: Instance,
    ack: str = "written",
    deadline_ms: int = DEADLINE_MS,
    store: Server | None = None,
    program: Sequence[str] = ("-m", "gateway"),
    environs: Sequence[Mapping[str, str]] = ({},) * REPLICAS,
    **settings: object,
) -> Iterator[Fleet]:
    """Start a fleet and provision it; it is whole and ready.

    `settings` are those of the store's server, as Server takes them, unless there is a `store` that
    runs. `program` are the words by which Python runs our commands, `environs` what each gateway
    finds in its environment.
    """
    with ExitStack() as stack:
        server = store or stack.enter_context(Server(directory / "store", **settings))
        proxy = stack.enter_context(ByteProxy(server.address))
        site = HttpSite(UPSTREAM, "cloudevents", "line", "24h", Upstream(directory / UPSTREAM))
        stack.callback(site.close)
        for name, pem in KEY_FILES.items():
            (directory / name).write_bytes(pem)
        told = {"partitions": PARTITIONS, "ack": ack, "deadline_ms": deadline_ms}

        def settings_over(url: str) -> str:
            return SETTINGS.format(directory=directory, url=url, **told) + site.toml()

        (directory / "gateway.toml").write_text(settings_over(server.url))
        words = [sys.executable, *program]
        replicas = [
            Replica(directory / f"gateway-{number}", settings_over(proxy.url), words, each)
            for number, each in enumerate(environs)
        ]
        balancer = stack.enter_context(HAProxy([replica.address for replica in replicas]))
        by_id = {each.id: each for each in instances}
        fleet = Fleet(directory, server, proxy, site, replicas, balancer, by_id, words)
        _provision(fleet)
        start_all(replicas, stack)
        balancer.wait_up()
        yield fleet


def knob(name: str, default: int) -> int:
    """Give a count that GATEWAY_FAULT_<name> may raise."""
    return int(os.environ.get(f"GATEWAY_FAULT_{name}", default))


def drawn_seed() -> int:
    """Draw the seed of a run and print it; GATEWAY_FAULT_SEED repeats one."""
    seed = knob("SEED", 0) or secrets.randbelow(2**32)
    print(f"GATEWAY_FAULT_SEED={seed}")
    return seed


def _provision(fleet: Fleet) -> None:
    for kid, key in ((TOKEN_KID, TOKEN_KEY), (PAYLOAD_KID, PAYLOAD_KEY)):
        (fleet.directory / f"{kid}.pem").write_bytes(public_pem(key.public_key()))
    file = fleet.directory / "fleet.toml"
    file.write_text("".join(each.toml for each in fleet.instances.values()))
    fleet.command("apply", str(file))
