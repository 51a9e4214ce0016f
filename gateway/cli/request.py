"""`request`: send one access request to a CMAPI server and show its answer.

Decided here: how features are spelt in a flag, which credential a key makes, when a request is sent
again (always under the same id), and what a client checks of a signed answer. Not decided here:
what a request means (SEMANTICS) and which requests the server takes: it judges, we only spell.
Source: INTERFACE 1, protocols/cmapi.md 6, SEMANTICS 9 and 10.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import httpx
import msgspec

from gateway.cli.answers import check_answer
from gateway.cli.names import Named
from gateway.cli.options import configured, example, read_bounded
from gateway.config import Config
from gateway.core.errors import GatewayError, InvalidInput
from gateway.core.fingerprint import visible_ascii
from gateway.core.intervals import parse_interval_s
from gateway.core.keys import KEY_BYTES_MAX, PrivateKey, algorithm_of, load_private, thumbprint
from gateway.core.model import is_instance_id
from gateway.core.tokens import mint_token, sign_payload
from gateway.core.versions import is_version
from gateway.protocols.cmapi_request import HOST_TYPES

TRIES_MAX: Final = 5
PAUSE_S: Final = 0.2  # before the second try, doubling
TIMEOUT_S: Final = 10.0
TOKEN_TTL_S: Final = 300
EXIT_DENIED: Final = 3
DEFAULT_INSTANCE: Final = "~"

_BASE: Final = "/api/1.0/instances/"
# The name is as short as it can be while what follows reads as a version and a count.
_FEATURE: Final = re.compile(
    r"([A-Za-z0-9._\-:/ ]{1,128}?)(?::([0-9.]*)(?::([+-]?[0-9]{1,13}))?)?", re.ASCII
)


class RequestFailed(GatewayError):
    """The server refused, answered what is no answer, or could not be reached.

    The same id may be sent again in any case.
    """


class Target(NamedTuple):
    """Where a request goes: the server's root and the instance's base, without a final slash."""

    root: str
    base: str


@click.command(
    cls=Named,
    epilog=example(
        "request http://127.0.0.1:7070 --instance DEMO00000001 --key private.pem"
        " --host string:h1 --feature sessions:1.0:42",
        "request URL --instance I --key K --host user:ann --feature editor --borrow 1h --signed",
    ),
)
@click.argument("url")
@click.option("--instance", required=True, help="Its id, or ~ for the default one.")
@click.option("--key", type=Path, required=True, metavar="FILE", help="Private key, PKCS#8 PEM.")
@click.option("--host", required=True, metavar="TYPE:VALUE", help="Who asks, such as string:h1.")
@click.option(
    "--feature",
    "features",
    multiple=True,
    metavar="NAME[:VERSION[:COUNT]]",
    help="May be given many times, or never. Without VERSION, or with an empty one, any version"
    " will do; COUNT is 1 when left out.",
)
@click.option("--incremental", is_flag=True, help="Add to what is held, not replace it.")
@click.option("--partial", is_flag=True, help="Take less when there is not enough.")
@click.option("--borrow", default="0d", show_default=True, help="How long to hold: 30m, 1h, 7d.")
@click.option("--signed", is_flag=True, help="Sign the request, and have the answer signed.")
@click.option("--id", "request_id", help="Idempotency id; a random one when left out.")
@click.option("--kid", help="Name of the key; its thumbprint when left out.")
@configured()
@click.pass_context
def request(
    ctx: click.Context,
    config: Config,
    url: str,
    instance: str,
    key: Path,
    host: str,
    features: tuple[str, ...],
    incremental: bool,
    partial: bool,
    borrow: str,
    signed: bool,
    request_id: str | None,
    kid: str | None,
) -> None:
    """Send one access request to the server at URL and print its answer, JSON.

    URL is the server's root or an instance's base. An RSA key makes a bearer token; with --signed,
    and with a key of another kind always, the request itself is signed. --signed also asks for a
    signed answer, checks it with the server's published keys and prints what it says.

    A name may hold colons itself: what follows its last colons counts as VERSION and COUNT when it
    looks like it. So a:b:1.0 is version 1.0 of "a:b", and a::5 is 5 of any version of "a".

    A request always has an id, so that one that got no answer is sent again without being counted
    twice. Exit code 0: all granted; 3: something denied.
    """
    target = find_target(url, instance)
    private = load_private(read_bounded(key, "The key", KEY_BYTES_MAX))
    if request_id is not None and not visible_ascii(request_id):
        raise InvalidInput("--id must be 1 to 255 visible ASCII characters")
    body = {
        "hostId": read_host(host),
        "features": [read_feature(text) for text in features],
        "incremental": incremental,
        "partial": partial,
        "borrow-interval": read_borrow(borrow),
    }
    request_id = request_id or secrets.token_urlsafe(16)
    jose = signed or algorithm_of(private) != "RS256"
    if jose and instance == DEFAULT_INSTANCE:
        raise InvalidInput("A signed request names its instance: give --instance its id, not ~")
    sender = _Sender(target, instance, private, kid, body, request_id, jose, signed)
    with httpx.Client(timeout=TIMEOUT_S, follow_redirects=False) as client:
        answer = sender.answer(client)
    click.echo(msgspec.json.format(answer, indent=2))
    if _denied(answer):
        ctx.exit(EXIT_DENIED)


def find_target(url: str, instance: str) -> Target:
    """Tell server and instance apart in a URL. Raises InvalidInput."""
    if instance != DEFAULT_INSTANCE and not is_instance_id(instance):
        raise InvalidInput(
            f"--instance is {instance[:64]!r}; expected 1 to 64 of A-Z a-z 0-9 . _ -, or ~"
        )
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        parts = httpx.URL()
    if parts.scheme not in ("http", "https") or not parts.host or parts.userinfo or "?" in url:
        raise InvalidInput("URL must be http://HOST:PORT or https://HOST, perhaps with a path")
    root, found, named = url.partition("#")[0].rstrip("/").partition(_BASE)
    if found and named not in (instance, DEFAULT_INSTANCE):
        raise InvalidInput(f"URL is of instance {named[:64]!r}, --instance is {instance!r}")
    return Target(root, f"{root}{_BASE}{named or instance}")


def read_host(text: str) -> dict[str, str]:
    """Read TYPE:VALUE; the value may hold colons. Raises InvalidInput."""
    kind, colon, value = text.partition(":")
    if not colon or not value or kind.upper() not in HOST_TYPES:
        kinds = ", ".join(sorted(each.lower() for each in HOST_TYPES))
        raise InvalidInput(f"--host is {text[:64]!r}; expected TYPE:VALUE, TYPE one of {kinds}")
    return {"type": kind, "value": value}


def read_feature(text: str) -> dict[str, Any]:
    """Read NAME[:VERSION[:COUNT]] from the right. Raises InvalidInput."""
    match = _FEATURE.fullmatch(text)
    if match is None or (match[2] and not is_version(match[2])):
        raise InvalidInput(
            f"--feature is {text[:64]!r}; expected NAME[:VERSION[:COUNT]], such as sessions:1.0:42"
        )
    feature: dict[str, Any] = {"name": match[1]}
    if match[2]:
        feature["version"] = match[2]
    return feature | {"count": int(match[3] or 1)}


def read_borrow(text: str) -> str:
    """Check a borrow interval. Raises InvalidInput."""
    if parse_interval_s(text) is None:
        raise InvalidInput(
            f"--borrow is {text[:64]!r}; expected digits and one of s m h d w, up to 3660d"
        )
    return text


class _Sender(NamedTuple):
    """One request, ready to be sent as often as it takes."""

    target: Target
    instance: str
    private: PrivateKey
    kid: str | None
    body: dict[str, Any]
    request_id: str
    jose: bool
    signed: bool

    def answer(self, client: httpx.Client) -> bytes:
        """Send until there is an answer, and give its JSON. Raises RequestFailed."""
        response = self._sent(client)
        if response.status_code != 200:
            raise RequestFailed(_refusal(response, self.request_id))
        if not self.signed:
            _read_object(response.content)
            return response.content
        try:
            jwks = client.get(f"{self.target.root}/.well-known/jwks.json")
        except httpx.HTTPError as error:
            raise RequestFailed(f"The server's keys cannot be read: {_why(error)}") from error
        if jwks.status_code != 200:
            raise RequestFailed(f"The server does not tell its keys: HTTP {jwks.status_code}")
        return check_answer(
            response.content,
            _read_object(jwks.content),
            expected={
                "instanceId": self.instance,
                "requestHostId": self.body["hostId"],
                "requestId": self.request_id,
            },
            now_s=time.time(),
        )

    def _sent(self, client: httpx.Client) -> httpx.Response:
        endpoint = "signed_access_request" if self.signed else "access_request"
        url = f"{self.target.base}/{endpoint}"
        pause_s = PAUSE_S
        for number in range(1, TRIES_MAX + 1):
            headers, content = self._spelt(int(time.time()))
            try:
                return client.post(url, headers=headers, content=content)
            except httpx.TransportError as error:
                if number == TRIES_MAX:
                    raise RequestFailed(
                        f"{self.target.root} gives no answer: {_why(error)};"
                        f" try again with --id {self.request_id}, nothing is counted twice"
                    ) from error
                click.echo(
                    f"no answer ({_why(error)}); sending again under the same id {self.request_id}",
                    err=True,
                )
            time.sleep(pause_s)
            pause_s *= 2
        raise AssertionError("the last try returns or raises")

    def _spelt(self, now_s: int) -> tuple[Mapping[str, str], bytes]:
        """Spell the request for one try: a credential of a try before may be too old."""
        if not self.jose:
            token = mint_token(
                self.private, sub="cmapi-gateway", now_s=now_s, ttl_s=TOKEN_TTL_S, kid=self.kid
            )
            headers = {
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "Idempotency-Key": self.request_id,
            }
            return headers, msgspec.json.encode(self.body)
        kid = self.kid or thumbprint(self.private.public_key())
        claims = self.body | {"iat": now_s, "jti": self.request_id, "aud": self.instance}
        return {"Content-Type": "application/jose"}, sign_payload(self.private, kid, claims)


def _refusal(response: httpx.Response, request_id: str) -> str:
    try:
        error = _read_object(response.content)
        told = f"{error['key']}: {error['message']}"
    except (RequestFailed, KeyError):
        told = "without a word that can be read"
    again = f" (try again with --id {request_id})" if response.status_code == 503 else ""
    return f"HTTP {response.status_code}, {told}{again}"


def _read_object(content: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise RequestFailed("The server's answer is not a JSON object") from None


def _denied(answer: bytes) -> bool:
    return bool(msgspec.json.decode(answer).get("statusList"))


def _why(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
