"""The table of operations of LicenseSpring clients: version 1, and the tables of both together.

Decided here: what such a client sees of each. They are there where `licensespring.instance` names
an instance. Not decided here: what requests mean (core/floating_asks.py), version 2
(openapi_licensespring_v2.py). Source: protocols/licensespring.md 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.protocols import licensespring_asked as asked
from gateway.protocols import licensespring_wire as wire
from gateway.protocols.licensespring_problem import V1
from gateway.protocols.licensespring_sync import SyncAsked, SyncSettings
from gateway.protocols.openapi_licensespring_parts import (
    ID,
    LOGIN,
    PRODUCT,
    READ,
    SECRET,
    TAG,
    body_of,
    call,
    read,
)
from gateway.protocols.openapi_licensespring_v2 import SYNCS, VERSION_2
from gateway.protocols.openapi_parts import (
    BODY,
    Given,
    Operation,
    Parameter,
    Security,
    json_of,
)

__all__ = ["BODIES", "OPERATIONS", "TAG"]

_OLD_USER: Final = {"product": "PROD", "user": "alice"}
_OLD_FEATURE: Final = {**_OLD_USER, "feature": "cad"}
_FEATURE_HELD: Final = body_of(asked.FeatureUser, _OLD_FEATURE)

VERSION_1: Final = (
    Operation(
        id="floatingOnline",
        method="GET",
        path="/",
        tag=TAG,
        summary="Is the floating server there?",
        given=(Given("It is", (json_of(wire.Online),), headers=READ),),
    ),
    Operation(
        id="floatingBasicLogin",
        method="GET",
        path="/auth",
        tag=TAG,
        summary="Log in with name and password",
        description="Attempts are limited per user and per address.",
        security=Security.BASIC,
        given=(Given("A token", (json_of(wire.BasicLogin),), headers=SECRET),),
        refusals=(*BODY, *LOGIN),
    ),
    call(
        "floatingRegister",
        f"{V1}/register",
        "Register a user",
        body_of(asked.LicenseUser, {**_OLD_USER, "license_id": 77}),
        wire.Registered,
        description="The same again is the heartbeat: the seat is held for another timeout.",
    ),
    call(
        "floatingUnregister",
        f"{V1}/unregister",
        "Give seat and features back",
        body_of(asked.LicenseUser, _OLD_USER),
        str,
    ),
    read("floatingUnregisterAll", f"{V1}/unregister/all", "Unregister everybody", None),
    call(
        "floatingBorrow",
        f"{V1}/borrow",
        "Hold a seat until a moment",
        body_of(asked.LicenseBorrow, {**_OLD_USER, "borrowed_until": "2029-05-06T00:00:00Z"}),
        wire.Borrowed,
    ),
    call(
        "floatingAdd",
        f"{V1}/add_consumption",
        "Consume of a licence",
        body_of(asked.LicenseUnits, {**_OLD_USER, "consumptions": 3}),
        wire.Consumption,
        description="All of it or nothing.",
    ),
    call(
        "floatingAddFeature",
        f"{V1}/add_feature_consumption",
        "Consume of a feature",
        body_of(asked.FeatureUnits, {**_OLD_USER, "feature": "pages", "consumptions": 2}),
        wire.FeatureConsumption,
        description="All of it or nothing.",
    ),
    *(
        call(id_, V1 + path, "Hold a feature", _FEATURE_HELD, wire.FeatureRegistered)
        for id_, path in (
            ("floatingRegisterFeature", "/featureRegister"),
            ("floatingCheckFeature", "/check_license_feature"),
        )
    ),
    *(
        call(id_, V1 + path, "Give a feature back", _FEATURE_HELD, str)
        for id_, path in (
            ("floatingReleaseFeature", "/featureRelease"),
            ("floatingFeatureRelease", "/feature_release"),
        )
    ),
    *(
        read(id_, f"{V1}{path}/all", "Release all features of everybody", str, method=method)
        for id_, path, method in (
            ("floatingReleaseFeatures", "/featureRelease", "GET"),
            ("floatingFeaturesReleased", "/feature_release", "GET"),
            ("floatingPostReleaseFeatures", "/featureRelease", "POST"),
            ("floatingPostFeaturesReleased", "/feature_release", "POST"),
        )
    ),
    read("floatingLicense", f"{V1}/license", "Read a licence", wire.License, PRODUCT, ID),
    read(
        "floatingAddProduct",
        f"{V1}/addProduct",
        "Find a licence by its key",
        wire.AddedLicense,
        Parameter("product", "query", str, "The product code.", "KEYED"),
        Parameter("licenseKey", "query", str, "The key of a line.", "KEY-82"),
        description="Licences are added by provisioning lines: it is there, or it is not.",
    ),
)

OPERATIONS: Final = (*VERSION_1, *VERSION_2, *SYNCS)

# Name of a file of schemas/ -> the type that it is the schema of.
BODIES: Final[Mapping[str, Any]] = {
    "license-user": asked.LicenseUser,
    "license-borrow": asked.LicenseBorrow,
    "license-units": asked.LicenseUnits,
    "feature-units": asked.FeatureUnits,
    "feature-user": asked.FeatureUser,
    "user": asked.User,
    "borrow": asked.Borrow,
    "units": asked.Units,
    "units-of-feature": asked.UnitsOfFeature,
    "user-of-feature": asked.UserOfFeature,
    "borrow-of-feature": asked.BorrowOfFeature,
    "everybody": asked.Everybody,
    "everybody-of-feature": asked.EverybodyOfFeature,
    "license-key": asked.LicenseKey,
    "name-and-password": asked.NameAndPassword,
    "license": wire.License,
    "signed-license": wire.SignedLicense,
    "consumption-feature": wire.ConsumptionFeature,
    "floating-feature": wire.FloatingFeature,
    "registered": wire.Registered,
    "borrowed": wire.Borrowed,
    "signed-borrow": wire.SignedBorrow,
    "consumption": wire.Consumption,
    "signed-consumption": wire.SignedConsumption,
    "feature-consumption": wire.FeatureConsumption,
    "signed-feature-consumption": wire.SignedFeatureConsumption,
    "feature-registered": wire.FeatureRegistered,
    "signed-feature-registered": wire.SignedFeatureRegistered,
    "registration": wire.Registration,
    "unregistered": wire.Unregistered,
    "added-license": wire.AddedLicense,
    "added-license-v2": wire.AddedLicenseV2,
    "pong": wire.Pong,
    "online": wire.Online,
    "basic-login": wire.BasicLogin,
    "login-v2": wire.LoginV2,
    "refreshed": wire.Refreshed,
    "me": wire.Me,
    "sync-settings": SyncSettings,
    "sync-asked": SyncAsked,
    "error": wire.FloatingError,
}
