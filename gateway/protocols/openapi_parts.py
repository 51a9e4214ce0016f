"""What an operation is made of, and how its refusals follow from the one table of errors.

Decided here: the words for operations (who may, what comes, what goes), the headers there are, and
how an error of problem.py is told in an OpenAPI document. Not decided here: which operations there
are (openapi_licensing.py and its siblings), how the document is laid out (openapi.py).
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta

from gateway.core import errors
from gateway.core.errors import GatewayError
from gateway.core.fingerprint import ID_BYTES_MAX
from gateway.core.floating import Refusal as FloatingCode
from gateway.core.model import Role
from gateway.core.tokens import ROLE_CAPABILITY
from gateway.protocols import licensespring_problem, problem
from gateway.protocols.cmapi_wire import Moment
from gateway.protocols.house_wire import Error
from gateway.protocols.licensespring_wire import FloatingError
from gateway.protocols.openapi_plant import INSTANCE_ID

# As web/cmapi.py routes them, which this floor does not know; a test compares the two.
BASE: Final = "/api/1.0/instances/{instance}"
SHORT: Final = "/api/1.0"  # reads of the default instance, as local servers had them

JSON: Final = "application/json"
JOSE: Final = "application/jose"
NDJSON: Final = "application/x-ndjson"
OCTETS: Final = "application/octet-stream"
CSV: Final = "text/csv"
TEXT: Final = "text/plain"
OPENMETRICS: Final = "application/openmetrics-text"


class Security(Enum):
    """How a request proves whose it is; the value is its name in the document."""

    CAPABILITY = "capability"
    SESSION = "session"
    BASIC = "password"
    FLOATING = "floating, where one is demanded"
    FLOATING_ALWAYS = "floating"


class Example(msgspec.Struct, frozen=True):
    """What may be sent or answered; `value` is JSON, or the text of another media type.

    `query` is what an answer was asked for with, beside what the path says.
    """

    name: str
    summary: str
    value: Any
    query: str = ""


class Jws(msgspec.Struct, frozen=True):
    """A body that is a JWS in compact form: the `typ` of its header, the type of its payload."""

    typ: str
    payload: Any


class Lines(msgspec.Struct, frozen=True):
    """A body of one JSON value a line, each of one of these types."""

    types: tuple[Any, ...]


class AnyOf(msgspec.Struct, frozen=True):
    """A body of JSON that is of one of these types; which one depends on what was asked."""

    types: tuple[Any, ...]


class Content(msgspec.Struct, frozen=True):
    """A body: a type, a Jws, Lines, AnyOf, or None for bytes as they are."""

    media_type: str
    type: Any
    examples: tuple[Example, ...] = ()


class Given(msgspec.Struct, frozen=True):
    """An answer that is no refusal. `headers` are names in HEADERS."""

    description: str
    content: tuple[Content, ...]
    status: int = 200
    headers: tuple[str, ...] = ()


class Parameter(msgspec.Struct, frozen=True):
    """A part of path or query, or a header of the request."""

    name: str
    where: str  # path | query | header
    type: Any
    description: str
    example: Any = None


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method at one path. `refusals` are beside `ANY_TIME`; a short one is there twice."""

    id: str
    method: str
    path: str
    tag: str
    summary: str
    description: str = ""
    security: Security | None = None
    roles: tuple[Role, ...] = ()  # one of them suffices
    parameters: tuple[Parameter, ...] = ()
    content: tuple[Content, ...] = ()
    content_required: bool = True
    given: tuple[Given, ...]
    refusals: tuple[type[GatewayError], ...] = ()
    short: bool = False  # also below SHORT, for the default instance

    @property
    def requirements(self) -> list[dict[str, list[str]]]:
        """What a request has to bring, in the words of OpenAPI: one of these alternatives."""
        match self.security:
            case None:
                return []
            case Security.FLOATING:
                return [{}, {Security.FLOATING_ALWAYS.value: []}]
            case Security.BASIC | Security.FLOATING_ALWAYS if not self.roles:
                return [{self.security.value: []}]
            case scheme:
                # In 3.1 the list may name roles; several requirements are alternatives.
                return [{scheme.value: [role]} for role in self.security_roles]

    @property
    def security_roles(self) -> tuple[str, ...]:
        """The roles that a credential must have one of."""
        if self.security is Security.CAPABILITY:
            return (ROLE_CAPABILITY,)
        return tuple(role.value for role in self.roles)


def json_of(type_: Any, *examples: Example) -> Content:
    """Give a JSON body of a type."""
    return Content(JSON, type_, examples)


# Parameters --------------------------------------------------------------------------------------

INSTANCE: Final = Parameter(
    "instance",
    "path",
    Annotated[str, Meta(pattern="^(~|[A-Za-z0-9._-]{1,64})$")],
    "The id of the instance; `~` is the default one.",
    INSTANCE_ID,
)
IDEMPOTENCY_KEY: Final = Parameter(
    "Idempotency-Key",
    "header",
    Annotated[str, Meta(pattern="^[!-~]+$", max_length=ID_BYTES_MAX)],
    "The idempotency id, unless a signed payload has a `jti`; goes before `correlationId`.",
)

# Headers of answers ------------------------------------------------------------------------------

HEADERS: Final[dict[str, tuple[str, Any]]] = {
    "Gateway-Request-Id": ("The gateway's own name for this request.", str),
    "Gateway-Transaction-Time": (
        "The store's clock when the request was applied; on a replay, the first one's.",
        Moment,
    ),
    "Idempotency-Replayed": (
        "`true`: this is the answer to an earlier request of the same id, nothing was counted.",
        Annotated[str, Meta(pattern="^true$")],
    ),
    "Cache-Control": ("Who may keep the answer, and how long.", str),
    "Content-Disposition": ("With CSV: the name of a file to keep it in (RFC 6266).", str),
    "Link": ('`rel="next"`: where the next page is; absent on the last one (RFC 8288).', str),
    "Retry-After": ("Seconds after which a retry may help.", Annotated[int, Meta(ge=0)]),
    "LicenseSignature": (
        "Base64 of RSASSA-PKCS1-v1_5 with SHA-256 over the very bytes of the body.",
        Annotated[str, Meta(pattern="^[A-Za-z0-9+/]+=*$")],
    ),
    "WWW-Authenticate": ("The challenge that HTTP asks for with a 401.", str),
}
REQUEST_ID: Final = "Gateway-Request-Id"

# Refusals ----------------------------------------------------------------------------------------

Refusals: TypeAlias = tuple[type[GatewayError], ...]
BODY: Final[Refusals] = (
    errors.BadRequest,
    errors.RequestTimeout,
    errors.TooLarge,
    errors.UnsupportedMediaType,
)
CREDENTIAL: Final[Refusals] = (errors.Unauthorized, errors.Forbidden)
STORE: Final[Refusals] = (errors.Unavailable,)

_FLOATING: Final = "Floating"  # how the names of LicenseSpring's refusals begin
# One of each that an operation may raise: status, key and headers are those of its protocol.
SAMPLES: Final[tuple[GatewayError, ...]] = (
    errors.BadRequest("features[0].count must be an integer", "features[0].count"),
    errors.Unauthorized(),
    errors.Forbidden(f"Role {Role.ADMIN} is required", Role.ADMIN.value),
    errors.NotFound("There is no such thing", "7"),
    errors.RequestTimeout("The body was not complete after 5 s"),
    errors.TooLarge("The body may have 65536 bytes", "65536"),
    errors.UnsupportedMediaType("Content-Type must be application/json", "content-type"),
    errors.IdempotencyMismatch("The idempotency id was used for another request"),
    errors.TooManyRequests("Too many log-ins at once; try again"),
    errors.Unavailable("The store gave no usable answer", "unknown"),
    errors.InvalidPublicKey(),
    errors.UserAuthFailed("ann"),
    licensespring_problem.FloatingRefused(FloatingCode.LICENSE_NOT_ENOUGH),
)


class Refusal(msgspec.Struct, frozen=True):
    """An error as an answer: `name` is its response component's, `headers` are names in HEADERS."""

    name: str
    status: int
    description: str
    headers: tuple[str, ...]
    example: Example


def refusal_of(error: type[GatewayError], path: str = "") -> Refusal:
    """Tell how a path answers an error. Raises LookupError for one that has no sample here."""
    sample = next((each for each in SAMPLES if type(each) is error), None)
    if sample is None:
        raise LookupError(f"{error.__name__} has no sample")
    floating = licensespring_problem.is_theirs(path)
    # One component for all of their paths, of which some have one member more.
    rendered = (
        licensespring_problem.render(sample, licensespring_problem.V2)
        if floating
        else problem.render(sample)
    )
    status, headers, body = rendered
    said = " ".join((error.__doc__ or "").split())
    more = tuple(name for name in headers if name != "Content-Type")
    name = error.__name__.removeprefix(_FLOATING)
    return _refusal(_FLOATING + name if floating else name, status, said, body, more)


def internal_error(path: str = "") -> Refusal:
    """Tell how a path answers what nobody foresaw."""
    request_id = "mD6Xm1gZ0g1cOa3C000000"
    said = "What nobody foresaw: a request id to find in the log."
    if licensespring_problem.is_theirs(path):
        status, _, body = licensespring_problem.render_internal(
            request_id, licensespring_problem.V2
        )
        return _refusal(f"{_FLOATING}InternalError", status, said, body, ())
    status, _, body = problem.render_internal(request_id)
    return _refusal("InternalError", status, said, body, ())


def key_removed() -> Refusal:
    """Tell how the removal of a licensing key is answered: as a refusal, which it is not."""
    status, _, body = problem.render_key_removed()
    return _refusal("KeyRemoved", status, "No uploaded key is trusted any more.", body, ())


def _refusal(
    name: str, status: int, description: str, body: bytes, headers: tuple[str, ...]
) -> Refusal:
    value = json.loads(body)
    if "code" in value:
        example = Example(value["code"], f"Code {value['code']}", value)
    else:
        example = Example(value["key"].rpartition(".")[2], f"Key {value['key']}", value)
    return Refusal(name, status, description, (REQUEST_ID, *headers), example)


def refused_content(*refusals: Refusal) -> Content:
    """Give the body of refusals that share a status, and so a protocol."""
    examples = {each.example.name: each.example for each in refusals}
    floating = all(each.name.startswith(_FLOATING) for each in refusals)
    return json_of(FloatingError if floating else Error, *examples.values())
