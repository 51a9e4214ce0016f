"""From the bytes of an access request to what it means.

Decided here: which bodies are access requests, what an absent member means, and the words of each
refusal. Not decided here: who may ask (the credential comes first), which idempotency id counts,
what the request does. A refusal names the member at fault and repeats next to nothing of the input.
Source: SEMANTICS 2 and 4, protocols/cmapi.md 4 and 13 (Q5, Q6, Q11, Q12).
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from typing import Any, Final

import msgspec

from gateway.core.errors import BadRequest
from gateway.core.fingerprint import ID_BYTES_MAX, visible_ascii
from gateway.core.intervals import parse_interval_s
from gateway.core.model import (
    COUNT_MAX,
    FEATURES_MAX,
    INTERVAL_DAYS_MAX,
    AccessRequest,
    Host,
    Want,
)
from gateway.core.versions import ANY_VERSION, VERSION_BYTES_MAX, is_version, version_key

# fmt: off
HOST_TYPES: Final = frozenset({
    "UNKNOWN", "STRING", "ETHERNET", "FLEXID9", "FLEXID10", "VM_UUID", "INTERNET", "INTERNET6",
    "USER", "TOLERANT", "EXTENDED", "PUBLISHER_DEFINED", "CONTAINER_ID",
})
# fmt: on
HOST_BYTES_MAX: Final = 256
NAME_BYTES_MAX: Final = 128
ENTRIES_MAX: Final = 64  # of a dictionary
TEXT_BYTES_MAX: Final = 256  # of a key or a value of a dictionary
INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1
ECHO_MAX: Final = 64  # characters of the input that a refusal may repeat

_INTERVAL_CHARACTERS_MAX: Final = 32  # of those worth remembering; longer ones are read each time
_MEMO_MAX: Final = 4096
_NAME: Final = re.compile(r"[A-Za-z0-9._\-:/ ]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_WORDS: Final = {"true": True, "false": False}
_decode_json: Final = msgspec.json.Decoder().decode


def decode_request(body: bytes) -> AccessRequest:
    """Read an access request from the body of a POST, at most 64 KiB (bounded by the caller).

    Raises BadRequest, with the member at fault, for whatever is not one: a retry cannot help. Pure.
    """
    return normalise(_object(body))


def decode_preview(body: bytes) -> AccessRequest:
    """Read a preview request from the body of a POST; bounds and errors as of `decode_request`."""
    return normalise_preview(_object(body))


def normalise(obj: dict[str, Any]) -> AccessRequest:
    """Read an access request from a decoded JSON object: a body, or the payload of a signed one.

    Unknown members are ignored and null is absent. Flags are booleans or the strings "true" and
    "false", in lower case. Entries of the same name and version are summed into the first of them,
    which keeps its place and its spelling. Raises BadRequest. Pure.
    """
    incremental = _flag(obj, "incremental")
    return AccessRequest(
        host=_host(obj.get("hostId")),
        wants=_counted_wants(obj.get("features"), incremental),
        incremental=incremental,
        partial=_flag(obj, "partial"),
        interval_s=_interval_s(obj.get("borrow-interval")),
        selectors=_dictionary(obj, "selectorsDictionary", integers=False),
        vendor=_dictionary(obj, "vendorDictionary", integers=True),
        correlation_id=_correlation_id(obj.get("correlationId")),
    )


def normalise_preview(obj: dict[str, Any]) -> AccessRequest:
    """Read a preview request from a decoded JSON object: host, names and versions, selectors.

    Every other member is unknown here, `count` too: all counts are 0. Several versions of one name
    stay apart, spellings of one version do not. Raises BadRequest. Pure. Source: SEMANTICS 8.
    """
    asked = [
        Want(*_feature(entry, at), 0) for at, entry in enumerate(_entries(obj.get("features")))
    ]
    return AccessRequest(
        host=_host(obj.get("hostId")),
        wants=_summed(asked),
        selectors=_dictionary(obj, "selectorsDictionary", integers=False),
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        decoded = _decode_json(body)
    except msgspec.DecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}", "body") from None
    except UnicodeDecodeError:
        raise BadRequest("The body is not UTF-8", "body") from None
    except RecursionError:
        raise BadRequest("The body is nested too deeply", "body") from None
    if not isinstance(decoded, dict):
        raise BadRequest("The body must be a JSON object", "body")
    return decoded


def _host(value: object) -> Host:
    if value is None:
        raise _refused("hostId", "is required")
    if not isinstance(value, dict):
        raise _refused("hostId", "must be an object")
    kind, name = value.get("type"), value.get("value")
    # ASCII too: a long s, in upper case, is an S.
    if not isinstance(kind, str) or kind.upper() not in HOST_TYPES or not kind.isascii():
        raise _refused("hostId.type", "must be one of the known host types, like string or user")
    if (
        not isinstance(name, str)
        or not name
        or not _fits(name, HOST_BYTES_MAX)
        or _CONTROL.search(name)
    ):
        raise _refused(
            "hostId.value",
            f"must be a string of 1 to {HOST_BYTES_MAX} bytes without control characters",
        )
    return Host(kind, name)


def _counted_wants(value: object, incremental: bool) -> tuple[Want, ...]:
    """Read `features` and judge the signs of its counts, before summing could hide one."""
    asked = [
        Want(*_feature(entry, at), _count(entry.get("count"), at))
        for at, entry in enumerate(_entries(value))
    ]
    counts = [want.count for want in asked]
    if not counts or min(counts) >= 0:
        return _summed(asked)
    if not incremental:
        at = next(at for at, count in enumerate(counts) if count < 0)
        raise _refused(f"features[{at}].count", "must not be negative unless incremental is true")
    if max(counts) > 0:
        raise _refused("features", "must not mix positive and negative counts")
    wants = _summed(asked)
    versions = Counter(want.name for want in wants)
    if any(want.count < 0 and versions[want.name] > 1 for want in wants):
        raise _refused("features", "must not have several versions of a name with negative counts")
    return wants


def _entries(value: object) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _refused("features", "must be an array")
    if len(value) > FEATURES_MAX:
        raise _refused("features", f"must have at most {FEATURES_MAX} entries")
    return value


def _feature(entry: object, at: int) -> tuple[str, str]:
    """Read name and version of the entry at place `at`."""
    if not isinstance(entry, dict):
        raise _refused(f"features[{at}]", "must be an object")
    name, version = entry.get("name"), entry.get("version")
    if not isinstance(name, str) or not _is_name(name):
        raise _refused(
            f"features[{at}].name",
            f"must be a string of 1 to {NAME_BYTES_MAX} letters, digits, . _ - : / and spaces",
        )
    if version is None:
        return name, ANY_VERSION
    if not isinstance(version, str) or not is_version(version):
        raise _refused(
            f"features[{at}].version",
            f"must be a string of numbers joined by dots, at most {VERSION_BYTES_MAX} bytes",
        )
    return name, version


def _count(value: object, at: int) -> int:
    if value is None:
        return 1
    if type(value) is not int:  # not isinstance: true is an int
        raise _refused(f"features[{at}].count", "must be an integer")
    if not -COUNT_MAX <= value <= COUNT_MAX:
        raise _refused(f"features[{at}].count", f"must be from -{COUNT_MAX} to {COUNT_MAX}")
    return value


def _summed(asked: list[Want]) -> tuple[Want, ...]:
    """Add up what is asked of the same name and version; all counts have one sign, or are 0."""
    if len(asked) < 2:
        return tuple(asked)
    summed: dict[tuple[str, tuple[int, ...]], Want] = {}
    for at, want in enumerate(asked):
        key = (want.name, version_key(want.version))
        first = summed.setdefault(key, want)
        if first is want:
            continue
        count = first.count + want.count
        if not -COUNT_MAX <= count <= COUNT_MAX:
            raise _refused(
                f"features[{at}].count",
                f"must be from -{COUNT_MAX} to {COUNT_MAX}, summed over the name and version",
            )
        summed[key] = Want(first.name, first.version, count)
    return tuple(summed.values())


def _flag(obj: dict[str, Any], member: str) -> bool:
    value = obj.get(member)
    if value is None:
        return False
    if isinstance(value, str):
        value = _WORDS.get(value)
    if not isinstance(value, bool):
        raise _refused(member, "must be true or false")
    return value


def _interval_s(value: object) -> int:
    if value is None:
        return 0
    interval_s = None
    if isinstance(value, str):
        short = len(value) <= _INTERVAL_CHARACTERS_MAX
        interval_s = _known_interval_s(value) if short else parse_interval_s(value)
    if interval_s is None:
        raise _refused(
            "borrow-interval",
            "must be a string of digits and at most one letter of s, m, h, d, w,"
            f" up to {INTERVAL_DAYS_MAX} days",
        )
    return interval_s


def _dictionary(obj: dict[str, Any], member: str, *, integers: bool) -> dict[str, Any]:
    value = obj.get(member)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _refused(member, "must be an object")
    if len(value) > ENTRIES_MAX:
        raise _refused(member, f"must have at most {ENTRIES_MAX} entries")
    for key, entry in value.items():
        if not _fits(key, TEXT_BYTES_MAX):
            raise _refused(member, f"must have keys of at most {TEXT_BYTES_MAX} bytes")
        if isinstance(entry, str):
            if not _fits(entry, TEXT_BYTES_MAX):
                raise _refused(_path(member, key), f"must be at most {TEXT_BYTES_MAX} bytes")
        elif not integers:
            raise _refused(_path(member, key), "must be a string")
        elif type(entry) is not int or not INTEGER_MIN <= entry <= INTEGER_MAX:
            raise _refused(_path(member, key), "must be a string or an integer of 64 bits")
    return value


def _correlation_id(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not visible_ascii(value):
        raise _refused(
            "correlationId", f"must be a string of 1 to {ID_BYTES_MAX} visible ASCII characters"
        )
    return value


def _fits(text: str, bytes_max: int) -> bool:
    """Say whether a text is at most `bytes_max` bytes of UTF-8; half a surrogate pair never is."""
    if len(text) > bytes_max:
        return False
    if text.isascii():
        return True
    try:
        return len(text.encode()) <= bytes_max
    except UnicodeEncodeError:
        return False


def _is_name(text: str) -> bool:
    # Measured before it is looked up: the memo must not keep what a hostile body is full of.
    return len(text) <= NAME_BYTES_MAX and _is_spelled_as_name(text)


@lru_cache(_MEMO_MAX)
def _is_spelled_as_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


_known_interval_s: Final = lru_cache(_MEMO_MAX)(parse_interval_s)


def _path(member: str, key: str) -> str:
    """Name an entry of a dictionary, or the dictionary where its key is long or unprintable."""
    return f"{member}.{key}" if len(key) <= ECHO_MAX and key.isprintable() else member


def _refused(member: str, what: str) -> BadRequest:
    return BadRequest(f"{member} {what}", member)
