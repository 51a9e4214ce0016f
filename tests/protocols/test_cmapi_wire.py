"""The types of bodies and the code that reads and writes them agree, as far as schemas can tell.

What a schema accepts, the decoder accepts, and the other way round; what only the decoder can tell
is drawn nowhere here and listed in gateway/protocols/cmapi_wire.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import BadRequest
from gateway.core.model import Catalogue
from gateway.core.passwords import PASSWORD_BYTES_MAX
from gateway.protocols.cmapi_admin import USER_BYTES_MAX, decode_login
from gateway.protocols.cmapi_batch import LineReader, Refused
from gateway.protocols.cmapi_request import HOST_TYPES, decode_preview, decode_request
from gateway.protocols.cmapi_server import decode_change, policies_of
from tests.contract import judge

untimed = settings(deadline=None, max_examples=150)  # a busy machine is no failure

ACCESS = judge({"$ref": "#/components/schemas/AccessRequest"})
PREVIEW = judge({"$ref": "#/components/schemas/PreviewRequest"})
LOGIN = judge({"$ref": "#/components/schemas/Login"})


def agree(judged: Any, decode: Callable[[bytes], object], value: object) -> bool:
    """Give what both the schema and the decoder say of a value."""
    said = bool(judged.is_valid(value))
    assert taken(decode, value) == said, f"the schema says {said} of {value!r}"
    return said


def taken(decode: Callable[[bytes], object], value: object) -> bool:
    try:
        decode(json.dumps(value).encode())
    except BadRequest:
        return False
    return True


# Values at and around each bound. Whole floats are left out: JSON Schema takes 1.0 for an integer.
# fmt: off
ANYTHING = [None, True, "", "x", "1", 0, 1, 1.5, [], [1], {}, {"a": 1}]
TEXTS = ["", "a", "ab c", "a\n", "\n", "a\x00", "a\x7f", "é", "a" * 256, "a" * 257]
FLAGS = [True, False, "true", "false", "True", "yes", 1, 0]
INTERVALS = [
    "0", "0d", "00w", "30m", "9s", "3600", "1h\n", "h", "1.5h", "1H", "-1d", "1 d", "1dd", "١d",
]
VERSIONS = [
    "0", "1", "1.0", "01.2", "1.", ".1", "1..2", "v1", "1\n", "1" * 32, "1" * 33, "1,2", "١",
]
NAMES = ["a", "a b", "a-b_c.d:e/f", "", "a\n", "é", "a" * 128, "a" * 129, "a,b"]
COUNTS = [0, 1, 10**12, 10**12 + 1, 1.5, True, "1"]
INTEGERS = [0, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, True, 1.5]
IDS = ["a", "a/b~!", "", "a b", "é", "a\n", "a" * 255, "a" * 256, 7]
KINDS = [*sorted(HOST_TYPES)[:3], "string", "User", "vm_uuid", "", "host", "ſtring", "string\n"]
DICTIONARIES = [
    *({key: "v"} for key in ("", "a", "é", "a" * 256, "a" * 257)),
    *({str(key): "v" for key in range(size)} for size in (63, 64, 65)),
    *({"k": value} for value in TEXTS + INTEGERS + ANYTHING),
]
# fmt: on
MEMBERS: dict[str, list[Any]] = {
    "hostId": [
        *({"type": kind, "value": "h1"} for kind in KINDS + ANYTHING),
        *({"type": "string", "value": value} for value in TEXTS + ANYTHING),
        *({"type": "string"}, {"value": "h1"}),
    ],
    "features": [
        *([{"name": name}] for name in NAMES + ANYTHING),
        *([{"name": "a", "version": version}] for version in VERSIONS + ANYTHING),
        *([{"name": "a", "count": count}] for count in COUNTS + ANYTHING),
        *([{"name": "a"}] * size for size in (63, 64, 65)),
        *([[each] for each in ANYTHING]),
    ],
    "incremental": FLAGS,
    "partial": FLAGS,
    "borrow-interval": INTERVALS,
    "selectorsDictionary": DICTIONARIES,
    "vendorDictionary": DICTIONARIES,
    "correlationId": IDS,
    "unknown": ANYTHING,
}
HOST = {"type": "string", "value": "h1"}
ENDPOINTS = [(ACCESS, decode_request), (PREVIEW, decode_preview)]


@pytest.mark.parametrize("member", sorted(MEMBERS))
@pytest.mark.parametrize(("judged", "decode"), ENDPOINTS, ids=["access", "preview"])
def test_schema_and_decoder_take_the_same_values_of_a_member(
    judged: Any, decode: Callable[[bytes], object], member: str
) -> None:
    """One member at a time, so that no other one is what both refuse."""
    said = [agree(judged, decode, {"hostId": HOST, member: value}) for value in MEMBERS[member]]

    assert any(said)


REQUEST = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(values + ANYTHING) for name, values in MEMBERS.items()}
)


@untimed
@given(REQUEST | st.builds(lambda request: {"hostId": HOST} | request, REQUEST))
def test_schema_and_decoder_take_the_same_requests(value: Any) -> None:
    for judged, decode in ENDPOINTS:
        agree(judged, decode, value)


@pytest.mark.parametrize("value", ANYTHING, ids=repr)
def test_what_is_no_object_is_no_request(value: Any) -> None:
    for judged, decode in ENDPOINTS:
        assert not agree(judged, decode, value)


@pytest.mark.parametrize("kind", sorted(HOST_TYPES))
def test_a_type_of_host_is_taken_in_any_case(kind: str) -> None:
    for spelled in (kind, kind.lower(), kind.title()):
        assert agree(ACCESS, decode_request, {"hostId": {"type": spelled, "value": "h1"}})


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("features", [{"name": "a", "count": 1.0}]),
        ("features", [{"name": "a", "count": -1}]),
        ("features", [{"name": "a", "count": 10**12}, {"name": "a"}]),
        ("borrow-interval", "3661d"),
        ("vendorDictionary", {"k": "é" * 129}),
        ("vendorDictionary", {"k": "\ud800"}),
    ],
)
def test_what_no_schema_says_is_refused_by_the_decoder_alone(member: str, value: Any) -> None:
    body = {"hostId": {"type": "string", "value": "h1"}, member: value}

    assert ACCESS.is_valid(body)
    with pytest.raises(BadRequest):
        decode_request(json.dumps(body).encode())


@pytest.mark.parametrize("user", ["", "a", "a" * USER_BYTES_MAX, "a" * 256, *ANYTHING])
def test_schema_and_decoder_take_the_same_users(user: Any) -> None:
    agree(LOGIN, decode_login, {"user": user, "password": "p", "unknown": 1})
    agree(LOGIN, decode_login, {"password": "p"})


@pytest.mark.parametrize("size", [0, 1, PASSWORD_BYTES_MAX, PASSWORD_BYTES_MAX + 1])
def test_schema_and_decoder_take_the_same_passwords(size: int) -> None:
    taken = agree(LOGIN, decode_login, {"user": "ann", "password": "p" * size})

    assert taken == (1 <= size <= PASSWORD_BYTES_MAX)


POLICY_CHANGE = judge({"$ref": "#/components/schemas/PolicyChange"})
IN_FORCE = policies_of(Catalogue(id="I"), session_s=86_400)
SPANS = ["1s", "0", "0d", "07d", "3600", "1H", "h", "1h\n", "1.5h"]


def decode_policies(body: bytes) -> object:
    return decode_change(body, IN_FORCE)


@pytest.mark.parametrize("policy", sorted(msgspec.to_builtins(IN_FORCE)))
def test_schema_and_decoder_take_the_same_policies(policy: str) -> None:
    """But for one that is fixed by how the gateway is set up, which no schema knows."""
    now = msgspec.to_builtins(IN_FORCE)[policy]
    others = [] if policy == "security.token.duration" else [*SPANS, *ANYTHING]
    for value in [now, *others]:
        agree(POLICY_CHANGE, decode_policies, {policy: value})
    assert agree(POLICY_CHANGE, decode_policies, {policy: now})


def test_schema_and_decoder_know_the_same_policies() -> None:
    assert agree(POLICY_CHANGE, decode_policies, msgspec.to_builtins(IN_FORCE))
    assert agree(POLICY_CHANGE, decode_policies, {})
    assert not agree(POLICY_CHANGE, decode_policies, {"licensing.other": 1})


BATCH_LINE = judge({"$ref": "#/components/schemas/BatchLine"})


def decode_line(text: bytes) -> object:
    read = LineReader(line_bytes_max=65_536).read(text)
    if isinstance(read, Refused):
        raise BadRequest(read.error.message)
    return read


@pytest.mark.parametrize("member", sorted(MEMBERS))
def test_schema_and_decoder_take_the_same_lines_of_a_batch(member: str) -> None:
    """Which lines went before is not a schema's business."""
    for value in [*MEMBERS[member], *ANYTHING]:
        line = {"hostId": HOST, "correlationId": "c-1", member: value}
        agree(BATCH_LINE, decode_line, line)
    assert not agree(BATCH_LINE, decode_line, {"hostId": HOST})
