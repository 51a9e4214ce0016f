"""Four gateways over three stores, and upstreams of every temper: what alarms are about.

Decided here: how they stand together, and the faults that are done to them. Each is a real one: a
process killed or paused, a clock put back, a refusal, a field of the store changed. Not decided
here: which alarm notices which, and when they are done (test_alarms.py).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import msgspec

from gateway.core.keys import private_pem, public_pem
from gateway.store.keys import InstanceKeys
from tests.faults.fleet_clock import StepClock
from tests.faults.fleet_replica import Replica
from tests.faults.fleet_requests import TOKEN_KEY, TOKEN_KID, make_token
from tests.stores.programs import HOST, lasting_port, start_all
from tests.stores.servers import Server
from tests.system.processes import COMMAND, children_of, clean_environ, eventually, words

PARTITIONS = 1
CHILD, PARENT, BROKEN = "CHILD", "PARENT", "BROKEN"
STATUSES = {"dead": 422, "stopped": 401, "lost": 0}  # what upstreams answer; 0: not a byte
BACK_S = -3_600  # by which a clock is put back
AGE_H = 10  # of usage that waits
CONNECTIONS_MAX = 16  # of the gateway that is asked for too much
CROWD = 12
UNKNOWN_TOKENS = 60
FILLED = 0.9
HELD_S = 0.8  # more than an answer should take
ANSWER_S_MAX = 60.0
SETTINGS = """
[redis]
url = "{url}"
partitions = {partitions}
[forward]
interval = "1s"
timeout_s = 20
"""


class Scene:
    """All of it; begins as it is entered.

    `main` has two workers and forwards; `short` and `late`, who share a calm store, may open few
    connections and have a clock of their own; `alone` has a store for itself.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._outside = _Outside()
        self._stack.callback(self._outside.close)
        self._http = httpx.Client(timeout=ANSWER_S_MAX, limits=httpx.Limits())
        self._stack.callback(self._http.close)
        self._token = make_token()
        (directory / "key.pem").write_bytes(private_pem(TOKEN_KEY))
        (directory / "public.pem").write_bytes(public_pem(TOKEN_KEY.public_key()))
        self.store, self._calm, self._second = (
            Server(directory / name) for name in ("store", "calm", "second")
        )
        self._clock = StepClock(directory / "clock")
        little = {
            "GATEWAY_LIMITS__CONNECTIONS": str(CONNECTIONS_MAX),
            "GATEWAY_LIMITS__LANE_QUEUE": "1",
        }
        held = {"GATEWAY_REDIS__DEADLINE_MS": "50000"}  # however long the store is held
        self.main = self._gateway("main", self.store, {"GATEWAY_SERVER__WORKERS": "2"})
        self.short = self._gateway("short", self._calm, little | held)
        self.late = self._gateway("late", self._calm, self._clock.environ | held)
        self.alone = self._gateway("alone", self._second, {})
        self.gateways = [self.main, self.short, self.late, self.alone]

    def __enter__(self) -> Scene:
        with ExitStack() as undo:
            undo.callback(self._stack.close)
            stores = [self.store, self._calm, self._second]
            start_all(stores, self._stack)
            with ThreadPoolExecutor(len(stores)) as side_by_side:
                list(side_by_side.map(self._apply, stores))
            start_all(self.gateways, self._stack)
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def use(self, gateway: Replica, host: str = "host", instance: str = CHILD) -> int:
        """Ask for five pages; give the status, 0 when there is no answer."""
        return self._post(gateway, instance, host, self._token)

    def age_usage(self, upstream: str) -> None:
        """Let what waits for an upstream that is away have been used ten hours ago."""
        keys = InstanceKeys(CHILD, PARTITIONS)
        sealed = keys.sealed(upstream)
        # What is sealed stays as it is, and what comes now waits behind it.
        eventually(lambda: self.store.ask("EXISTS", sealed), ANSWER_S_MAX)
        assert self.use(self.main, "waiting") == 200
        waiting = self.store.ask("HGETALL", keys.open(upstream))
        assert waiting
        for field, units in waiting.items():  # two, if an hour has just begun
            line, hour, *host = field.split("|")
            older = "|".join((line, str(_hours_before(int(hour))), *host))
            self.store.ask("HSET", keys.open(upstream), older, units)
            self.store.ask("HDEL", keys.open(upstream), field)

    def falsify_the_books(self) -> None:
        """Change a sum of the ledger, as nobody should."""
        self.store.ask("HINCRBY", InstanceKeys(PARENT, PARTITIONS).ledger, "acked|L1", 7)

    def damage_a_catalogue(self) -> None:
        """Write over a catalogue what is none, and have it asked for."""
        cat = InstanceKeys(BROKEN, PARTITIONS).cat
        self._second.ask("HSET", cat, "blob", "no catalogue")
        self._second.ask("HINCRBY", cat, "version", 1)
        assert self.use(self.alone, instance=BROKEN) == 500

    def kill_a_worker(self) -> None:
        workers = [pid for pid in children_of(self.main.pid) if "gateway.cli.worker" in words(pid)]
        os.kill(workers[0], signal.SIGKILL)

    def come_with_unknown_keys(self) -> None:
        """Ask many times with a token that nobody signed."""
        forged = self._token[:-8] + "AAAAAAAA"
        statuses = {self._post(self.main, CHILD, "host", forged) for _ in range(UNKNOWN_TOKENS)}
        assert statuses == {401}

    def crowd_a_slow_store(self) -> None:
        """Ask side by side while a store does not answer: for more than may wait, and for less."""
        self._calm.pause()
        with ThreadPoolExecutor(2 * CROWD) as crowd, ExitStack() as held:
            held.callback(self._calm.wake)
            refused = [crowd.submit(self.use, self.short, f"s{number}") for number in range(CROWD)]
            waiting = [crowd.submit(self.use, self.late, f"l{number}") for number in range(CROWD)]
            # One waits for the store, and has the one place that there is.
            eventually(lambda: sum(each.done() for each in refused) == CROWD - 1)
            wait(waiting, HELD_S)
        assert {each.result() for each in refused} == {200, 503}
        assert {each.result() for each in waiting} == {200}

    def hold_connections(self) -> None:
        """Open more connections than may be open, and close them again."""
        with ExitStack() as held:
            for _ in range(2 * CONNECTIONS_MAX):
                with suppress(OSError):
                    address = (HOST, self.short.port)
                    held.enter_context(socket.create_connection(address, ANSWER_S_MAX))

    def put_a_clock_back(self) -> None:
        self._clock.step(BACK_S)

    def weaken_a_store(self) -> None:
        self._second.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")

    def fill_a_store(self) -> None:
        """Leave a store little more room than it has used."""
        used = self._calm.info("memory")["used_memory"]
        self._calm.ask("CONFIG", "SET", "maxmemory", round(used / FILLED))

    def kill_a_store(self) -> None:
        self._second.kill()

    def _post(self, gateway: Replica, instance: str, host: str, token: str) -> int:
        members = {
            "hostId": {"type": "string", "value": host},
            "incremental": True,
            "features": [{"name": "pages", "version": "1.0", "count": 5}],
        }
        url = f"{gateway.url}/api/1.0/instances/{instance}/access_request"
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        body = msgspec.json.encode(members)
        try:
            return self._http.post(url, content=body, headers=headers).status_code
        except httpx.HTTPError:
            return 0

    def _gateway(self, name: str, store: Server, environ: Mapping[str, str]) -> Replica:
        text = SETTINGS.format(url=store.url, partitions=PARTITIONS)
        gateway = Replica(self._directory / name, text, COMMAND, environ)
        if store is self.store:
            path = gateway.directory / "gateway.toml"
            path.write_text(path.read_text() + self._upstreams(gateway))
        return gateway

    def _upstreams(self, parent: Replica) -> str:
        """Give one upstream of each temper; the parent is the gateway itself, another instance."""
        urls = {name: f"{self._outside.url}/{name}" for name in STATUSES}
        urls["away"] = f"http://{HOST}:{lasting_port()}/away"
        collectors = "".join(
            f'[[upstream]]\nname = "{name}"\nkind = "cloudevents"\nurl = "{url}"\n'
            for name, url in urls.items()
        )
        url = f"{parent.url}/api/1.0/instances/{PARENT}"
        return (
            f'{collectors}[[upstream]]\nname = "parent"\nkind = "cmapi"\nurl = "{url}"\n'
            f'key_file = "{self._directory}/key.pem"\nkid = "{TOKEN_KID}"\n'
        )

    def _apply(self, store: Server) -> None:
        names = (*STATUSES, "away", "parent") if store is self.store else ()
        file = self._directory / f"{store.directory.name}.toml"
        child = _instance(CHILD, 10**6, names)
        file.write_text(child + _instance(PARENT, 1) + _instance(BROKEN, 1))
        ended = subprocess.run(
            [*COMMAND, "apply", str(file), "--redis", store.url],
            env=clean_environ() | {"GATEWAY_REDIS__PARTITIONS": str(PARTITIONS)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr


class _Outside(ThreadingHTTPServer):
    """Upstreams that answer what STATUSES says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((HOST, 0), _Answers)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}"

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.close_connection = True
        if status := STATUSES[self.path.strip("/")]:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def _instance(name: str, count: int, upstreams: tuple[str, ...] = ()) -> str:
    attached = "".join(f'[[instance.upstream]]\nname = "{each}"\n' for each in upstreams)
    return (
        f'[[instance]]\nid = "{name}"\n{attached}'
        f'[[instance.key]]\nkid = "{TOKEN_KID}"\nalg = "RS256"\npublic_file = "public.pem"\n'
        f'[[instance.line]]\nid = "L1"\nfeature = "pages"\nversion = "1.0"\nmodel = "metered"\n'
        f"count = {count}\n"
    )


def _hours_before(hour: int) -> int:
    """Give the hour ten hours before one, as fields of an outbox have it."""
    return hour - AGE_H
