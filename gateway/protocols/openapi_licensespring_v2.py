"""The table of operations of LicenseSpring clients, second part: version 2, and syncs.

Decided here: what such a client sees of each; which answers are signed. Not decided here: what
requests mean (core/floating_asks.py). Source: protocols/licensespring.md 2.
"""

from __future__ import annotations

from typing import Final

from gateway.core import errors
from gateway.core.model import Role
from gateway.protocols import licensespring_asked as asked
from gateway.protocols import licensespring_sync as sync
from gateway.protocols import licensespring_wire as wire
from gateway.protocols.licensespring_problem import V2, FloatingRefused
from gateway.protocols.openapi_licensespring_parts import (
    ADMIN,
    ASKED,
    LICENSE,
    LICENSE_PATH,
    LOGIN,
    PRODUCT,
    READ,
    SECRET,
    SIGNED,
    TAG,
    body_of,
    call,
    everybody,
    read,
)
from gateway.protocols.openapi_parts import (
    BODY,
    STORE,
    Given,
    Operation,
    Security,
    json_of,
)

_USER: Final = {"username": "alice"}

VERSION_2: Final = (
    Operation(
        id="floatingPing",
        method="GET",
        path=f"{V2}/ping",
        tag=TAG,
        summary="Is version 2 spoken?",
        given=(Given("It is", (json_of(wire.Pong),), headers=READ),),
    ),
    Operation(
        id="floatingLogin",
        method="POST",
        path=f"{V2}/auth/login",
        tag=TAG,
        summary="Log in",
        description="Attempts are limited per user and per address.",
        content=body_of(asked.NameAndPassword, {"username": "ann", "password": "correct horse"}),
        given=(Given("A token", (json_of(wire.LoginV2),), headers=SECRET),),
        refusals=(*BODY, FloatingRefused, *LOGIN),
    ),
    Operation(
        id="floatingRefresh",
        method="POST",
        path=f"{V2}/auth/refresh",
        tag=TAG,
        summary="Have a token that lasts longer",
        security=Security.FLOATING_ALWAYS,
        given=(Given("A token", (json_of(wire.Refreshed),), headers=SECRET),),
        refusals=(*BODY, errors.Unauthorized, *STORE),
    ),
    Operation(
        id="floatingMe",
        method="GET",
        path=f"{V2}/auth/me",
        tag=TAG,
        summary="Who is logged in?",
        security=Security.FLOATING_ALWAYS,
        given=(Given("A user", (json_of(wire.Me),), headers=READ),),
        refusals=(*BODY, errors.Unauthorized, *STORE),
    ),
    read(
        "floatingLicenses",
        f"{V2}/license",
        "List licences",
        list[wire.SignedLicense],
        PRODUCT,
        description="The bare product will do for a query: `?PROD`.",
    ),
    Operation(
        id="floatingAddLicense",
        method="POST",
        path=f"{V2}/license",
        tag=TAG,
        summary="Find a licence by its key",
        description="Licences are added by provisioning lines: it is there, or it is not.",
        security=Security.FLOATING,
        content=body_of(asked.LicenseKey, {"product": "KEYED", "license_key": "KEY-82"}),
        given=(Given("It is there", (json_of(wire.AddedLicenseV2),), headers=READ),),
        refusals=ASKED,
    ),
    read("floatingLicenseOf", LICENSE_PATH, "Read a licence", wire.SignedLicense, LICENSE),
    read(
        "floatingUsers",
        f"{LICENSE_PATH}/user",
        "List who is registered",
        list[wire.Registration],
        LICENSE,
    ),
    read(
        "floatingFeatures",
        f"{LICENSE_PATH}/feature",
        "List the features",
        list[wire.ConsumptionFeature | wire.FloatingFeature],
        LICENSE,
    ),
    call(
        "floatingUserRegister",
        f"{LICENSE_PATH}/user/register",
        "Register a user",
        body_of(asked.User, _USER),
        wire.SignedLicense,
        headers=SIGNED,
        description="The same again is the heartbeat: the seat is held for another timeout.",
    ),
    call(
        "floatingUserUnregister",
        f"{LICENSE_PATH}/user/unregister",
        "Give seat and features back",
        body_of(asked.User, _USER),
        str,
    ),
    everybody(
        "floatingUnregisterUsers",
        f"{LICENSE_PATH}/user/unregister_all",
        "Unregister everybody",
        body_of(asked.Everybody, {}),
        wire.Unregistered,
    ),
    call(
        "floatingUserBorrow",
        f"{LICENSE_PATH}/user/borrow",
        "Hold a seat until a moment",
        body_of(asked.Borrow, {**_USER, "borrowed_until": "2029-05-06T00:00:00Z"}),
        wire.SignedBorrow,
        headers=SIGNED,
    ),
    call(
        "floatingConsume",
        f"{LICENSE_PATH}/consumption/add",
        "Consume of a licence",
        body_of(asked.Units, {**_USER, "consumptions": 3}),
        wire.SignedConsumption,
        headers=SIGNED,
        description="All of it or nothing.",
    ),
    call(
        "floatingConsumeFeature",
        f"{LICENSE_PATH}/consumption/feature/add",
        "Consume of a feature",
        body_of(asked.UnitsOfFeature, {**_USER, "feature": "pages", "consumptions": 2}),
        wire.SignedFeatureConsumption,
        headers=SIGNED,
        description="All of it or nothing.",
    ),
    call(
        "floatingHoldFeature",
        f"{LICENSE_PATH}/feature/register",
        "Hold a feature",
        body_of(asked.BorrowOfFeature, {**_USER, "feature": "cad"}),
        wire.SignedFeatureRegistered,
        headers=SIGNED,
    ),
    call(
        "floatingReturnFeature",
        f"{LICENSE_PATH}/feature/release",
        "Give a feature back",
        body_of(asked.UserOfFeature, {**_USER, "feature": "cad"}),
        str,
    ),
    everybody(
        "floatingReleaseAll",
        f"{LICENSE_PATH}/feature/release_all",
        "Release a feature, or all, of everybody",
        body_of(asked.EverybodyOfFeature, {"feature": "cad"}),
        str,
    ),
)

SYNCS: Final = (
    Operation(
        id="floatingSync",
        method="GET",
        path=f"{V2}/sync",
        tag=TAG,
        summary="When is usage exchanged with the cloud?",
        security=Security.FLOATING_ALWAYS,
        roles=(Role.ADMIN,),
        given=(Given("The schedule", (json_of(sync.SyncSettings),), headers=READ),),
        refusals=ADMIN,
    ),
    Operation(
        id="floatingSetSync",
        method="POST",
        path=f"{V2}/sync",
        tag=TAG,
        summary="Say when usage is exchanged with the cloud",
        security=Security.FLOATING_ALWAYS,
        roles=(Role.ADMIN,),
        content=body_of(sync.SyncAsked, {"enabled": True, "hours": 1, "minutes": 0}),
        given=(Given("Done", (json_of(str),), headers=READ),),
        refusals=(*BODY, FloatingRefused, *ADMIN),
    ),
    Operation(
        id="floatingTriggerSync",
        method="POST",
        path=f"{V2}/sync/trigger",
        tag=TAG,
        summary="Exchange usage with the cloud now",
        security=Security.FLOATING_ALWAYS,
        roles=(Role.ADMIN,),
        given=(Given("It is on its way", (json_of(str),), headers=READ),),
        refusals=(*BODY, FloatingRefused, *ADMIN),
    ),
)
