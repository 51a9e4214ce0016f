"""The server under test as a client sees it: credentials, requests, and giving back.

Decided here: that whatever a run takes is of a feature it was told, on a host of its own, at most
UNITS_MAX at once, and is written down before it is asked for. Not decided here: what is right
(the sections), what was taken (loans.py). No secret is shown: `scrubbed` blots out what slipped in.
Source: protocols/cmapi.md 3, 4 and 7.2; SEMANTICS 2.
"""

from __future__ import annotations

import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import msgspec

from gateway.cli.conformity.answers import REPLAYED, UNCOUNTED, Answer, contents
from gateway.cli.conformity.checks import Differs, NotTried, shortened, shown
from gateway.cli.conformity.loans import Loans
from gateway.cli.conformity.sessions import Login, Session
from gateway.cli.conformity.wares import Ware
from gateway.cli.conformity.wire import MISSHAPEN, Busy, NoAnswer, Reply, Wire
from gateway.cli.request import DEFAULT_INSTANCE, Target
from gateway.core.keys import PrivateKey, thumbprint
from gateway.core.tokens import mint_token, sign_payload

UNITS_MAX: Final = 50  # of one feature: in one request, and consumed for good by a run
INTERVAL: Final = "20m"  # how long anything is held if it cannot be given back
TOKEN_TTL_S: Final = 300
SILENT_MAX: Final = 3  # requests in a row without an answer, after which a server is left alone
JSON: Final = "application/json"
JOSE: Final = "application/jose"
PREFIX: Final = "conformance-"  # of every host and name that a run makes up
_JWT: Final = re.compile(r"eyJ[A-Za-z0-9_.-]{6,}")  # also one that was cut, or of somebody else


class Overreach(Exception):
    """A check asks for what this run may not: a defect of the check."""


class Want(msgspec.Struct, frozen=True):
    """What is asked of one feature."""

    name: str
    count: int = 1
    version: str = "0"

    def wire(self) -> dict[str, Any]:
        return {"name": self.name, "version": self.version, "count": self.count}


class Site:
    """One instance of one server, and the credentials to ask it with."""

    def __init__(
        self,
        wire: Wire,
        target: Target,
        instance: str,
        private: PrivateKey,
        *,
        kid: str | None = None,
        told: tuple[str, ...] = (),
    ) -> None:
        self.wire, self.target, self.instance = wire, target, instance
        self.private, self._kid, self.told = private, kid, told
        self.wares: dict[str, Ware] = {}  # those of the told features that can be used
        self.unfit: dict[str, str] = {}  # why each of the others cannot
        self.faults: list[Differs] = []  # what differed before the first check
        self.loans = Loans()
        self.session = Session(None)
        self.remembers_ids: bool | None = None  # None: nobody has looked yet
        self.stranger = PREFIX + secrets.token_hex(6)  # a feature that nobody sells
        self._token, self._token_until_s = "", 0.0

    # -- who asks

    def host(self) -> str:
        """Make up a host that nobody has."""
        return PREFIX + secrets.token_hex(6)

    @property
    def kid(self) -> str:
        return self._kid or thumbprint(self.private.public_key())

    def token(self) -> str:
        """Give a capability token that holds for some minutes."""
        now_s = time.time()
        if now_s >= self._token_until_s:
            self._token = mint_token(
                self.private, sub="conformance", now_s=now_s, ttl_s=TOKEN_TTL_S, kid=self._kid
            )
            self._token_until_s = now_s + TOKEN_TTL_S / 2
        return self._token

    def signed(self, body: Mapping[str, Any], **claims: Any) -> bytes:
        """Make a signed payload of a body; `claims` are put over `iat` and `aud`."""
        if self.instance == DEFAULT_INSTANCE:
            raise NotTried("A signed payload names its instance: give --instance its id, not ~")
        payload = {**body, "iat": int(time.time()), "aud": self.instance, **claims}
        return sign_payload(self.private, self.kid, payload)

    def log_in(self, login: Login) -> None:
        """Begin the session that reads are made with, or keep why there is none."""
        body = msgspec.json.encode(login._asdict())
        self.session = Session(login)  # its secrets are known before anything can fail
        self.session = Session(login, self.send("POST", "/authorize", body))

    def scrubbed(self, text: str) -> str:
        """Blot out every secret of this run, also as JSON and as `shown` write it."""
        for secret in filter(None, (self._token, *self.session.secrets())):
            quoted = msgspec.json.encode(secret).decode()[1:-1]
            for spelling in (secret, quoted, shown(secret), shown(quoted)):
                text = text.replace(spelling, "(secret)")
        return _JWT.sub("(token)", text)

    def safe(self, text: str) -> str:
        """Make a text that may have a server's words in it fit to be shown."""
        return shortened(self.scrubbed(shown(text)))

    # -- what is sent

    def send(
        self,
        method: str,
        path: str,
        content: bytes = b"",
        *,
        token: str | None = None,
        media_type: str = JSON,
        **headers: str,
    ) -> Reply:
        """Send anything to the instance; without a `token` nobody asks."""
        named = {"Accept": "*/*"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        if token is not None:
            named["Authorization"] = f"Bearer {token}"
        if method != "GET":
            named["Content-Type"] = media_type
        return self.wire.send(method, self.target.base + path, named, content)

    def post(self, path: str, body: object, **headers: str) -> Reply:
        """Post JSON with a capability token."""
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return self.send("POST", path, content, token=self.token(), **headers)

    def preview(self, host: str, *wants: Want, **members: Any) -> Answer:
        """Ask what a host could get. Raises Differs unless it is answered with 200."""
        body = {"hostId": host_id(host), "features": [want.wire() for want in wants]}
        return Answer(self.post("/preview_request", body | members))

    def left(self, name: str) -> int | str:
        """Say how much of a feature a new host could get; a word when it is not counted."""
        return self.preview(self.host(), Want(name)).count(name)

    def left_counted(self, name: str, least: int = 1, most: int | None = None) -> int:
        """Say how much is left of a feature that is counted. Raises NotTried outside of bounds."""
        left = self.left(name)
        if not isinstance(left, int):
            raise NotTried(f"{name} is {UNCOUNTED}")
        if left < least:
            raise NotTried(f"{left} of {name} are left, {least} are needed")
        if most is not None and left > most:
            raise NotTried(f"{left} of {name} are left, more than the {most} this run would take")
        return left

    def body(
        self,
        host: str,
        *wants: Want,
        incremental: bool = False,
        partial: bool = False,
        borrow: str | None = INTERVAL,
        **members: Any,
    ) -> dict[str, Any]:
        """Make an access request of what this run may ask for; anything else is an Overreach."""
        for want in wants:
            if want.name not in self.told and want.name != self.stranger:
                raise Overreach(f"{want.name} is none of the features that were told")
            if want.count > UNITS_MAX:
                raise Overreach(f"{want.count} of {want.name} are more than {UNITS_MAX}")
        interval = {} if borrow is None else {"borrow-interval": borrow}
        return {
            "hostId": host_id(host),
            "features": [want.wire() for want in wants],
            "incremental": incremental,
            "partial": partial,
            **interval,
            **members,
        }

    def ask(self, host: str, *wants: Want, key: str | None = None, **flags: Any) -> Answer:
        """Send an access request with a token; `flags` are those of `body`.

        Raises Differs unless it is answered with 200.
        """
        return Answer(self.access(self.body(host, *wants, **flags), key=key))

    def accepted(self, body: Mapping[str, Any]) -> Answer:
        """Send an access request made by `body`, perhaps respelled, and give its answer."""
        return Answer(self.access(body))

    def read_back(self, host: str) -> Answer:
        """Ask what a host holds, which changes nothing."""
        return self.ask(host, incremental=True)

    def access(
        self,
        body: Mapping[str, Any],
        *,
        path: str = "/access_request",
        key: str | None = None,
        jose: bytes | None = None,
    ) -> Reply:
        """Post an access request made by `body`, and take down what it took.

        `jose` is sent in its place, without a token, when it is given: the same, signed.
        """
        named = {} if key is None else {"Idempotency_Key": key}
        with self.lending([body]) as taken:
            if jose is None:
                reply = self.post(path, body, **named)
            else:
                reply = self.send("POST", path, jose, media_type=JOSE)
            if reply.status != 200 or REPLAYED not in reply.headers:
                taken(body, reply.status, contents(reply))
        return reply

    # -- what is taken and given back

    @contextmanager
    def lending(
        self, bodies: Sequence[Mapping[str, Any]]
    ) -> Iterator[Callable[[Mapping[str, Any], int, Any], None]]:
        """Write down the hosts of access requests about to be sent; gives what takes down what
        the answer to one of them, by status and contents, says. Raises NotTried when they could
        have the run consume over UNITS_MAX of a feature.
        """
        asked: Counter[str] = Counter()
        for body in bodies:
            for each in body["features"]:
                asked[each["name"]] += max(0, each.get("count", 1))
        for name, units in (+asked).items():  # never of what is only given back
            ware = self.wares.get(name)
            if ware and ware.consumed and self.loans.consumed[name] + units > UNITS_MAX:
                raise NotTried(f"{name}: {UNITS_MAX} units are all that a run consumes")
        for body in bodies:
            self.loans.begin(body["hostId"]["value"])
        try:
            yield lambda body, status, said: self.loans.answered(body, status, said, self.wares)
        except Busy:
            raise  # nothing was done
        except (NoAnswer, KeyboardInterrupt, SystemExit):
            for body in bodies:
                self.loans.doubt(body, self.wares)
            raise

    def give_back(self, *, again: bool = False) -> None:
        """Return what hosts of this run hold and undo what may be; what fails stays on loan.

        A host for which that failed is tried once more only `again`: else each of many checks
        would try it. Left off after SILENT_MAX hosts without an answer.
        """
        silent = 0
        for host in [each for each in self.loans.open if again or each not in self.loans.stuck]:
            self.loans.stuck.add(host)
            try:
                for name, units in self.loans.to_undo(host, self.wares).items():
                    with suppress(Differs, *MISSHAPEN):
                        self.ask(host, Want(name, -units), incremental=True, partial=True)
                with suppress(Differs, *MISSHAPEN):
                    if self._released(host):
                        self.loans.closed(host)
            except NoAnswer:
                silent += 1
                if silent == SILENT_MAX:
                    return

    def _released(self, host: str) -> bool:
        """Return all that a host holds, in one of two ways, and say whether it holds nothing."""
        # Every server has the first way; one that takes it for a read-back may have the second.
        answer = self.ask(host)
        held = {name: answer.count(name) for name in answer.names()}
        for name, units in held.items():
            if isinstance(units, int) and units > 0 and name in self.told:
                self.ask(host, Want(name, -units), incremental=True, partial=True)
        return not any(held.values()) or not self.read_back(host).names()

    def left_over(self) -> list[str]:
        """Say what could not be given back, a sentence each."""
        held = "may still hold what it took, until that lapses"
        lost = "was not answered well: it may be consumed"
        return [f"string:{host} {held}" for host in self.loans.open] + [
            f"a request for {name} {lost}" for name in sorted(self.loans.unsure)
        ]


def host_id(host: str) -> dict[str, str]:
    """Write a host as requests have it."""
    return {"type": "string", "value": host}
