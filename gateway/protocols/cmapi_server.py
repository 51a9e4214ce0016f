"""What CMAPI tells of the server and of an instance: health, information, policies.

Decided here: the members of each, which words stand for what a gateway does not have, which
policies there are, which of them can be changed, and to what: to what a provisioning file may say.
Not decided here: who may ask, and how a change is written (service/).
Source: protocols/cmapi.md 3.4, 7.1 and 8.7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, Union, get_type_hints

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.core import provisioning_values as values
from gateway.core.errors import BadRequest, InvalidInput
from gateway.core.intervals import SERVER_RENEW_PERCENT, spell_duration
from gateway.core.model import Catalogue
from gateway.protocols.objects import read_object

POLICIES_MAX: Final = 64  # in one change; there are fewer
_UNKNOWN: Final = "unknown"  # nothing of the kind is built in


class Database(msgspec.Struct, frozen=True, rename="camel"):
    """The store, as health tells of it."""

    connection_check: Literal["success", "failure"]


class LocalServer(msgspec.Struct, frozen=True, rename="camel"):
    """The server, as health tells of it."""

    version: str
    build_date: Annotated[str, Meta(description="`unknown`: it is not kept.")]
    build_version: Annotated[str, Meta(description="As `version`.")]
    branch: Annotated[str, Meta(description="`unknown`: it is not kept.")]
    patch: Annotated[str, Meta(description="The third number of `version`.")]
    fne_build_version: Annotated[Literal["none"], Meta(description="There is no FNE in it.")]
    server_instance_id: Annotated[
        str,
        Meta(description="The one in the path, whether or not it exists; for `~` what that means."),
    ] = msgspec.field(name="serverInstanceID")
    database: Database


class Health(msgspec.Struct, frozen=True):
    """The answer of `/health`: it speaks of the server, never of an instance."""

    server: LocalServer = msgspec.field(name="LLS")


def health_of(version: str, instance: str, *, connected: bool) -> Health:
    """Give the health of the server. Pure."""
    parts = version.split(".")
    return Health(
        LocalServer(
            version=version,
            build_date=_UNKNOWN,
            build_version=version,
            branch=_UNKNOWN,
            patch=parts[2] if len(parts) > 2 else "0",
            fne_build_version="none",
            server_instance_id=instance,
            database=Database("success" if connected else "failure"),
        )
    )


class InstanceInfo(msgspec.Struct, frozen=True, rename="camel"):
    """What the base itself tells: of which instance, and of which gateway. Ours."""

    instance_id: str
    name: str
    version: Annotated[str, Meta(description="Of the gateway.")]


_Duration = Annotated[
    str, Meta(description="A whole number and one of `smhdw`.", pattern="^[0-9]+[smhdw]$")
]
_Asked = Annotated[
    str,
    Meta(
        description="A whole number and at most one of `smhdw`, none being seconds; 1s to 3660d.",
        pattern="^0*[1-9][0-9]*[smhdw]?$",
    ),
]
_True = Annotated[bool, Meta(extra_json_schema={"const": True})]
_False = Annotated[bool, Meta(extra_json_schema={"const": False})]

_NAMES: Final = {
    "borrow_interval": "licensing.borrowInterval",
    "borrow_interval_max": "licensing.borrowIntervalMax",
    "renew_interval": "licensing.renewInterval",
    "default_borrow_granularity": "licensing.defaultBorrowGranularity",
    "allow_virtual_clients": "licensing.allowVirtualClients",
    "allow_virtual_server": "licensing.allowVirtualServer",
    "allow_duplicate_clients": "licensing.allowDuplicateClients",
    "track_denied_requests": "licensing.trackDeniedRequests",
    "enabled": "security.enabled",
    "anonymous": "security.anonymous",
    "token_duration": "security.token.duration",
    "require_signed_payload": "gateway.requireSignedPayload",
    "require_exp": "gateway.requireExp",
}


class Policies(msgspec.Struct, frozen=True, kw_only=True, rename=_NAMES):
    """The policies in force; those of `gateway` are ours."""

    borrow_interval: _Duration
    borrow_interval_max: _Duration
    renew_interval: Literal[15]
    default_borrow_granularity: Literal["SECOND"]
    allow_virtual_clients: _True
    allow_virtual_server: _True
    allow_duplicate_clients: _False
    track_denied_requests: _True
    enabled: _True
    anonymous: _False
    token_duration: _Duration
    require_signed_payload: bool
    require_exp: bool


_KINDS: Final = get_type_hints(Policies, include_extras=True) | {
    "borrow_interval": _Asked,
    "borrow_interval_max": _Asked,
}
# The body of a change, for schemas: any of the policies, nothing else.
PolicyChange: Final = msgspec.defstruct(
    "PolicyChange",
    [
        (name, Union[kind, UnsetType], UNSET)  # noqa: UP007 - made when it runs
        for name, kind in _KINDS.items()
    ],
    rename=_NAMES,
    forbid_unknown_fields=True,
)

# Policy -> member of the catalogue, and the provisioning file's reader of it.
_CHANGEABLE: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "licensing.borrowInterval": ("borrow_ms", values.span_ms),
    "licensing.borrowIntervalMax": ("borrow_max_ms", values.span_ms),
    "gateway.requireSignedPayload": ("require_signed_payload", values.flag),
    "gateway.requireExp": ("require_exp", values.flag),
}


def policies_of(catalogue: Catalogue, session_s: int) -> Policies:
    """Give the policies of an instance; a session of administration lasts `session_s`. Pure."""
    return Policies(
        borrow_interval=spell_duration(catalogue.borrow_ms),
        borrow_interval_max=spell_duration(catalogue.borrow_max_ms),
        renew_interval=SERVER_RENEW_PERCENT,
        default_borrow_granularity="SECOND",
        allow_virtual_clients=True,
        allow_virtual_server=True,
        allow_duplicate_clients=False,
        track_denied_requests=True,
        enabled=True,
        anonymous=False,
        token_duration=spell_duration(session_s * 1000),
        require_signed_payload=catalogue.require_signed_payload,
        require_exp=catalogue.require_exp,
    )


def decode_change(body: bytes, present: Policies) -> dict[str, Any]:
    """Read a change of policies, as members of the catalogue and what they shall be.

    A policy that cannot be changed may be given as it is at `present`. Raises BadRequest that names
    everything which is wrong. Pure.
    """
    fixed = msgspec.to_builtins(present)
    changes: dict[str, Any] = {}
    problems: dict[str, str] = {}
    given = read_object(body)
    if len(given) > POLICIES_MAX:
        raise BadRequest(f"The body may have {POLICIES_MAX} members", "body")
    for name, value in given.items():
        shown = name[: values.SHOWN_MAX]
        try:
            if name in _CHANGEABLE:
                member, read = _CHANGEABLE[name]
                changes[member] = read(value)
            elif name not in fixed:
                raise InvalidInput("there is no such policy")
            elif type(value) is not type(fixed[name]) or value != fixed[name]:
                was = msgspec.json.encode(fixed[name]).decode()
                raise InvalidInput(f"it cannot be changed here and is {was}")
        except InvalidInput as error:
            problems[shown] = f"{shown}: {error.message}"
        except ValueError as error:
            problems[shown] = f"{shown} must be {error}, not {repr(value)[: values.SHOWN_MAX]}"
    if problems:
        raise BadRequest("; ".join(problems.values()), *problems)
    return changes


def changed_names(before: Catalogue, after: Catalogue) -> list[str]:
    """Name the policies that are not what they were. Pure."""
    return [
        name
        for name, (member, _) in _CHANGEABLE.items()
        if getattr(before, member) != getattr(after, member)
    ]
