"""What the gateway must say to a request, told by others than its own code.

Decided here: whether a text is a JWS that an instance must take (joserfc verifies it, base64url and
the header are read by rules of our own), and whether a JSON text is an access request, written anew
from SEMANTICS 2 over Python's `json`. None: these rules do not say. Nothing of the gateway is
imported. Source: SEMANTICS 2, 9 and 10.
"""

from __future__ import annotations

import base64
import json
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey

Keys = Mapping[str, tuple[str, RSAKey | ECKey | OKPKey]]  # by kid: the algorithm, the public key

DEPTH_SURE: Final = 200  # nested less deeply than this is read, by the gateway and by Python
REFUSED_IN_HEADERS: Final = {"jwk", "jku", "x5u", "x5c", "crit", "b64"}

_PART: Final = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_ID: Final = re.compile(r"[!-~]{1,255}")
_NAME: Final = re.compile(r"[A-Za-z0-9._\-:/ ]{1,128}")
_VERSION: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_INTERVAL: Final = re.compile(r"([0-9]+)([smhdw]?)")
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_HOST_TYPES: Final = set(
    [
        "UNKNOWN",
        "STRING",
        "ETHERNET",
        "FLEXID9",
        "FLEXID10",
        "VM_UUID",
        "INTERNET",
        "INTERNET6",
        "USER",
        "TOLERANT",
        "EXTENDED",
        "PUBLISHER_DEFINED",
        "CONTAINER_ID",
    ]
)


class _Wrong(ValueError):
    """It is no access request."""


class _Unsure(ValueError):
    """These rules do not say what it is."""


# JWS --------------------------------------------------------------------------------------------


def signed_header(text: bytes, keys: Keys, *, named: bool) -> dict[str, Any] | None:
    """Give the header of a JWS that one of `keys` signed, the one that it names; None: it is none.

    Where none need be `named`, RS256 alone is signed with, and a header without `kid` means any.
    Raises ValueError where these rules do not say.
    """
    parts = [_canonical(part) for part in text.decode("latin-1").split(".")]
    if len(parts) != 3 or None in parts:
        return None
    try:
        header = _object(parts[0] or b"", pairs=_distinct)
    except _Unsure:
        raise
    except ValueError:
        return None
    if REFUSED_IN_HEADERS & set(header):
        return None
    kid = header.get("kid")
    if "kid" in header or named:
        candidates = [keys[kid]] if isinstance(kid, str) and kid in keys else []
    else:
        candidates = list(keys.values())
    for alg, key in candidates:
        if header.get("alg") == alg and (named or alg == "RS256") and _verifies(text, key, alg):
            return header
    return None


def _verifies(text: bytes, key: Any, alg: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # that EdDSA is called Ed25519 by now
        try:
            # Members that nobody knows are no matter of the signature.
            registry = jws.JWSRegistry(algorithms=[alg], strict_check_header=False)
            jws.deserialize_compact(text, key, registry=registry)
        except (JoseError, ValueError):
            return False
    return True


def payload_verdict(text: bytes, keys: Keys, *, instance: str, now_s: float) -> int | None:
    """Give the status that a signed access request comes to, for a jti that is new.

    200: it is let in and its request is one; 400; 401; None where these rules do not say.
    """
    try:
        header = signed_header(text, keys, named=True)
        if header is None or set(header) != {"alg", "kid", "typ"}:
            return 401
        if header["typ"] != "access-request+jws":
            return 401
        payload = _canonical(text.split(b".")[1].decode("ascii")) or b""
        claims = _object(payload)
    except _Unsure:
        return None
    except ValueError:
        return 401
    iat_s = claims.get("iat")
    if type(iat_s) is not int or not now_s - 300 <= iat_s <= now_s + 60:
        return 401
    if claims.get("aud") != instance or claims.get("jti") is None:
        return 401
    if not isinstance(claims["jti"], str) or not _ID.fullmatch(claims["jti"]):
        return 400
    return request_verdict(payload)


def token_verdict(text: bytes, keys: Keys, *, now_s: float) -> int | None:
    """Give the status that a capability token comes to with a request that is one: 200, 401, 403;
    None where these rules do not say.
    """
    try:
        header = signed_header(text, keys, named=False)
        if header is None or len(text) > 8_192:
            return 401
        typ = header.get("typ", "JWT")
        if not isinstance(typ, str) or typ.upper() != "JWT":
            return 401
        payload = _canonical(text.split(b".")[1].decode("ascii")) or b""
        claims = _object(payload)
    except (_Unsure, UnicodeDecodeError):
        return None  # of a claim that nobody reads nobody sees that it is no text
    except ValueError:
        return 401
    try:
        _object(payload, pairs=_distinct)
    except ValueError:
        return None  # a claim given twice may count twice
    numbers = [claims[name] for name in ("exp", "nbf", "iat") if name in claims]
    if any(type(each) not in (int, float) for each in numbers) or "exp" not in claims:
        return 401
    if not isinstance(claims.get("sub", ""), str) or any(abs(each) > 1e300 for each in numbers):
        return 401 if not isinstance(claims.get("sub", ""), str) else None
    if now_s >= claims["exp"] + 60 or now_s < claims.get("nbf", 0) - 60:
        return 401
    roles = claims.get("roles")
    listed = roles.split(",") if isinstance(roles, str) else roles
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        return 403
    return 200 if "ROLE_CAPABILITY" in [each.strip(" ") for each in listed] else 403


def _canonical(part: str) -> bytes | None:
    """Decode base64url of which there is one text for each sequence of bytes."""
    if not _PART.fullmatch(part) or len(part) % 4 == 1:
        return None
    data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    return data if base64.urlsafe_b64encode(data).decode().rstrip("=") == part else None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name is given twice")
    return dict(pairs)


# Access requests --------------------------------------------------------------------------------


def request_verdict(body: bytes) -> int | None:
    """Say whether a JSON text is an access request: 200, 400, or None: these rules do not say."""
    try:
        _check(_object(body))
    except _Unsure:
        return None
    except ValueError:
        return 400
    return 200


def _object(body: bytes, *, pairs: Callable[..., Any] = dict) -> dict[str, Any]:
    depth = deepest = 0
    for byte in body:
        depth += (byte in b"[{") - (byte in b"]}")
        deepest = max(deepest, depth)
    if deepest > DEPTH_SURE:
        raise _Unsure
    found = json.loads(
        body.decode("utf-8"),  # given bytes, it would guess at UTF-16
        object_pairs_hook=pairs,
        parse_constant=_no_constant,
        parse_float=_float,
        parse_int=_integer,
    )
    _whole_characters(found)
    if not isinstance(found, dict):
        raise _Wrong
    return found


def _no_constant(word: str) -> Any:
    raise _Wrong(word)


def _float(digits: str) -> float:
    if abs(float(digits)) == float("inf"):
        raise _Unsure
    return float(digits)


def _integer(digits: str) -> int:
    if len(digits) > 4_000:  # Python itself reads no more than 4,300
        raise _Unsure
    return int(digits)


def _whole_characters(value: Any) -> None:
    """Raise for half a surrogate pair, which is no character and cannot be written as UTF-8."""
    if isinstance(value, str):
        value.encode("utf-8")
    elif isinstance(value, dict):
        for name, each in value.items():
            _whole_characters(name)
            _whole_characters(each)
    elif isinstance(value, list):
        for each in value:
            _whole_characters(each)


def _check(said: dict[str, Any]) -> None:
    host = said.get("hostId")
    _want(isinstance(host, dict))
    kind, name = host.get("type"), host.get("value")
    _want(isinstance(kind, str) and kind.isascii() and kind.upper() in _HOST_TYPES)
    _want(isinstance(name, str) and 1 <= len(name.encode()) <= 256)
    _want(not any(ord(each) < 32 or 127 <= ord(each) < 160 for each in name))
    flags = {each: _flag(said.get(each)) for each in ("incremental", "partial")}
    _features(said.get("features") or ([] if said.get("features") is None else said["features"]),
              incremental=flags["incremental"])  # fmt: skip
    _interval(said.get("borrow-interval"))
    _dictionary(said.get("selectorsDictionary"), (str,))
    _dictionary(said.get("vendorDictionary"), (str, int))
    name = said.get("correlationId")
    _want(name is None or (isinstance(name, str) and _ID.fullmatch(name) is not None))


def _want(holds: bool) -> None:
    if not holds:
        raise _Wrong


def _flag(value: Any) -> bool:
    _want(value is None or value is True or value is False or value in ("true", "false"))
    return value in (True, "true")


def _features(listed: Any, *, incremental: bool) -> None:
    _want(isinstance(listed, list) and len(listed) <= 64)
    sums: dict[tuple[str, tuple[int, ...]], int] = {}
    for each in listed:
        _want(isinstance(each, dict))
        name, version, count = each.get("name"), each.get("version"), each.get("count")
        _want(isinstance(name, str) and _NAME.fullmatch(name) is not None)
        version = "0" if version is None else version
        _want(isinstance(version, str) and len(version) <= 32)
        _want(_VERSION.fullmatch(version) is not None)
        count = 1 if count is None else count
        _want(type(count) is int and abs(count) <= 10**12)
        numbers = [int(part) for part in version.split(".")]
        while numbers and not numbers[-1]:
            numbers.pop()
        key = (name, tuple(numbers))
        sums[key] = sums.get(key, 0) + count
        _want(abs(sums[key]) <= 10**12)
    counts = [1 if each.get("count") is None else each["count"] for each in listed]
    if any(count < 0 for count in counts):
        _want(incremental and not any(count > 0 for count in counts))
        negative = {name for (name, _), count in sums.items() if count < 0}
        names = [name for name, _ in sums]
        _want(not any(names.count(name) > 1 for name in negative))


def _interval(value: Any) -> None:
    if value is None:
        return
    found = _INTERVAL.fullmatch(value) if isinstance(value, str) and value.isascii() else None
    _want(found is not None)
    assert found is not None
    _want(len(found[1].lstrip("0")) < 20)
    _want(int(found[1][-40:]) * _SECONDS[found[2]] <= 3_660 * 86_400)


def _dictionary(value: Any, kinds: tuple[type, ...]) -> None:
    if value is None:
        return
    _want(isinstance(value, dict) and len(value) <= 64)
    for name, each in value.items():
        _want(len(name.encode()) <= 256 and type(each) in kinds)
        _want(len(each.encode()) <= 256 if isinstance(each, str) else -(2**63) <= each < 2**63)
