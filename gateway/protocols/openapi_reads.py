"""The table of operations, third part: what administrators read of an instance, and change.

Decided here: what their programs see of features, clients, policies and the server. The types of
bodies are those that the code itself writes. Source: protocols/cmapi.md 3.3, 3.4 and 8.7.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta

from gateway.core import errors
from gateway.core.errors import GatewayError
from gateway.core.fingerprint import ID_BYTES_MAX
from gateway.core.model import Role
from gateway.core.numbers import NUMBER_MAX
from gateway.protocols import cmapi_clients as clients
from gateway.protocols import cmapi_explain as explain
from gateway.protocols import cmapi_features as features
from gateway.protocols import cmapi_server as server
from gateway.protocols import openapi_answers as answers
from gateway.protocols.openapi_parts import (
    BASE,
    BODY,
    CREDENTIAL,
    INSTANCE,
    REQUEST_ID,
    STORE,
    Example,
    Given,
    Operation,
    Parameter,
    Security,
    json_of,
)
from gateway.protocols.openapi_plant import USAGE_ID

TAG: Final = "reads"

_NUMBER: Final = Annotated[int, Meta(ge=1)]
_NAMED: Final = Parameter(
    "instance", "path", str, "As in other paths; it is not looked up.", INSTANCE.example
)
_ACTIVE_ONLY: Final = Parameter(
    "activeOnly",
    "query",
    bool,
    "Leave out lines that have not started or are over; false when absent.",
)


def _number(of: str, example: int) -> Parameter:
    return Parameter("number", "path", _NUMBER, f"The `id` of the {of}.", example)


def _page(limit_max: int, default: int, after: Any) -> tuple[Parameter, ...]:
    return (
        Parameter(
            "limit",
            "query",
            Annotated[int, Meta(ge=1, le=limit_max)],
            f"How many at most; {default} when absent.",
        ),
        Parameter("after", "query", after, "Where the page before ended, as its `Link` says."),
    )


def _read(
    id: str,
    path: str,
    summary: str,
    body: Any,
    *examples: Example,
    parameters: tuple[Parameter, ...] = (),
    refusals: tuple[type[GatewayError], ...] = (),
    headers: tuple[str, ...] = (),
    description: str = "",
    short: bool = True,
) -> Operation:
    return Operation(
        id=id,
        method="GET",
        path=f"{BASE}{path}",
        tag=TAG,
        summary=summary,
        description=description,
        security=Security.SESSION,
        roles=(Role.READ,),
        parameters=(INSTANCE, *parameters),
        given=(Given("As it stands", (json_of(body, *examples),), headers=(REQUEST_ID, *headers)),),
        refusals=(*CREDENTIAL, *refusals, *STORE),
        short=short,
    )


_FEATURES: Final = (
    _read(
        "features",
        "/features",
        "List the feature lines",
        list[features.Feature],
        answers.FEATURES,
        description="Expired lines stay listed, unless `activeOnly`.",
        parameters=(_ACTIVE_ONLY,),
        refusals=(errors.BadRequest,),
    ),
    _read(
        "featureSummaries",
        "/features/summaries",
        "Add up the lines that are valid now",
        features.Summaries,
        answers.SUMMARIES,
        description="By name and version.",
    ),
    _read(
        "feature",
        "/features/{number}",
        "Read one feature line",
        features.Feature,
        answers.FEATURE,
        parameters=(_number("feature line", 1),),
        refusals=(errors.NotFound,),
    ),
    _read(
        "featureClients",
        "/features/{number}/clients",
        "List who has something of a line",
        list[features.FeatureClient],
        answers.FEATURE_CLIENTS,
        description="What is held, and what of consumption can still be undone.",
        parameters=(
            _number("feature line", 3),
            *_page(
                clients.CLIENTS_MAX,
                clients.CLIENTS_DEFAULT,
                Annotated[int, Meta(ge=0, le=NUMBER_MAX)],
            ),
        ),
        refusals=(errors.BadRequest, errors.NotFound),
        headers=("Link",),
    ),
)
_CLIENTS: Final = (
    _read(
        "clients",
        "/clients",
        "List the hosts that asked",
        list[clients.Client],
        answers.CLIENTS,
        description="Those that asked longest ago come first.",
        parameters=_page(
            clients.CLIENTS_MAX,
            clients.CLIENTS_DEFAULT,
            Annotated[str, Meta(pattern="^[0-9]{1,16}-[0-9]{1,16}$")],
        ),
        refusals=(errors.BadRequest,),
        headers=("Link",),
    ),
    Operation(
        id="dropClient",
        method="DELETE",
        path=f"{BASE}/clients/{{number}}",
        tag=TAG,
        summary="Drop a client: what it held comes back",
        description="What it consumed stays consumed. The decision is recorded.",
        security=Security.SESSION,
        roles=(Role.DROPCLIENT,),
        parameters=(INSTANCE, _number("client", answers.CLIENT_ID)),
        given=(
            Given(
                "It is dropped",
                (json_of(clients.Dropped, answers.DROPPED),),
                headers=(REQUEST_ID,),
            ),
        ),
        refusals=(*CREDENTIAL, errors.BadRequest, errors.NotFound, *STORE),
    ),
)
_REQUESTS: Final = (
    _read(
        "explain",
        "/requests/{id}",
        "Say why a request came to what it came to",
        explain.Explained,
        answers.EXPLAINED,
        description="Of requests that came while `explain.retention` was on, as long as that says.",
        parameters=(
            Parameter(
                "id",
                "path",
                Annotated[str, Meta(pattern="^[!-~]+$", max_length=ID_BYTES_MAX)],
                "The idempotency id, or the `Gateway-Request-Id` of a request that had none; a"
                " slash in it may be written as it is.",
                USAGE_ID,
            ),
        ),
        refusals=(errors.NotFound,),
    ),
)
_SERVER: Final = (
    _read(
        "instance",
        "",
        "Tell which instance this is",
        server.InstanceInfo,
        short=False,
    ),
    Operation(
        id="health",
        method="GET",
        path=f"{BASE}/health",
        tag=TAG,
        summary="Is the server well?",
        description="Anonymous; gives nothing away of which instances exist.",
        parameters=(_NAMED,),
        given=(
            Given("It is", (json_of(server.Health),), headers=(REQUEST_ID, "Cache-Control")),
            Given(
                "It has no store",
                (json_of(server.Health),),
                status=503,
                headers=(REQUEST_ID, "Cache-Control", "Retry-After"),
            ),
        ),
        short=True,
    ),
    _read(
        "reservationGroups",
        "/reservationgroups",
        "List the groups of reservations: there are none",
        Annotated[list[dict[str, Any]], Meta(max_length=0)],
        answers.NO_GROUPS,
    ),
    _read(
        "policies",
        "/policies",
        "Read the policies in force",
        server.Policies,
        answers.POLICIES,
    ),
    Operation(
        id="changePolicies",
        method="PATCH",
        path=f"{BASE}/policies",
        tag=TAG,
        summary="Change policies, all that are given or none",
        description="One that cannot be changed may be given as it is.",
        security=Security.SESSION,
        roles=(Role.ADMIN,),
        parameters=(INSTANCE,),
        content=(json_of(server.PolicyChange, answers.POLICY_CHANGE),),
        given=(
            Given(
                "All that are in force now",
                (json_of(server.Policies, answers.POLICIES_CHANGED),),
                headers=(REQUEST_ID,),
            ),
        ),
        refusals=(*BODY, *CREDENTIAL, *STORE),
    ),
)
OPERATIONS: Final = (*_FEATURES, *_CLIENTS, *_REQUESTS, *_SERVER)
