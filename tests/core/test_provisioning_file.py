"""The types of the provisioning file and the code that reads it agree, as far as schemas can tell.

Values are tried one at a time in a file that is good otherwise. What only the reader can tell is
listed in gateway/core/provisioning_file.py.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import InvalidInput
from gateway.core.model import UNITS_MAX, Model, Reset
from gateway.core.provisioning import read_provisioning
from gateway.core.toml_text import write_table, write_value
from gateway.protocols.openapi_plant import PROVISIONING
from tests.contract import committed, judge_file, provisioning_toml
from tests.vectors.credentials import public_der

JUDGE = judge_file(committed("provisioning"))
VECTORS = sorted((Path(__file__).parents[1] / "vectors").glob("*.toml"))

# fmt: off
ANY = ["", "x", True, False, 0, 1, -1, {"a": "b"}]
FLAGS = [True, False, "true", 1]
TEXTS = ["", "a", "a\n", "a\x7f", "é", "a" * 256, "a" * 257, 7]
IDS = ["a", "A.b_c-1", "", "a b", "a/b", "a\n", "é", "a" * 64, "a" * 65, 7]
SPANS = ["1h", "30", "0", "0d", "00w", "07d", "1H", "h", "1.5h", "1h\n", "", 1]
LINE: dict[str, list[Any]] = {
    "id": IDS,
    "feature": ["a", "a b", "a:b/c", "", "a,b", "a\n", "é", "a" * 128, "a" * 129],
    "version": ["0", "1.0", "1.", "v1", "1\n", "1" * 32, "1" * 33, 1],
    "count": [0, 1, UNITS_MAX, UNITS_MAX + 1, -1, "uncounted", "1", True],
    "model": [*(model.value for model in Model), "Metered", "seat"],
    "overdraft": [0, 5, UNITS_MAX + 1, "10%", "0%", "%", "1000000000%", "5", "unlimited", True],
    "undo_interval": SPANS,
    "reset": [*(reset.value for reset in Reset), "hourly"],
    "borrow_interval": SPANS,
    "renew_percent": [0, 15, 100, 101, -1, True, "15"],
    **dict.fromkeys(("vendor_string", "serial_number", "issuer", "notice"), TEXTS),
    "selectors": [
        {}, {"a": "b"}, {"a": 1}, {"a": ""}, {"a": "b" * 257}, {"a" * 257: "b"},
        *({str(key): "v" for key in range(size)} for size in (64, 65)),
    ],
    "product": [
        {}, {"name": "S", "version": "1", "activation_id": "A", "entitlement_id": "E"},
        {"other": "x"}, {"name": 1},
    ],
    "licensespring": [
        {}, {"license_id": 77, "product": "P", "feature": "f", "license_key": "K"},
        {"license_id": 0}, {"license_id": 1}, {"license_id": -1}, {"license_id": "77"},
        {"license_id": True}, {"other": "x"},
    ],
    "allow_negative_consumptions": FLAGS,
    "client_overages": FLAGS,
    "other": ["x"],
}
INSTANCE: dict[str, list[Any]] = {
    "id": IDS,
    "name": TEXTS,
    **dict.fromkeys(("default", "require_signed_payload", "require_exp"), FLAGS),
    **dict.fromkeys(("borrow_interval", "borrow_interval_max"), SPANS),
    "other": ["x"],
}
KEY: dict[str, list[Any]] = {
    "kid": ["k1", "", "a b", "é", "a\n", "a" * 255, "a" * 256, 7],
    "alg": ["ES256", "HS256", "", 1],
    "public_file": ["keys/public.pem", "", 1],
    "other": ["x"],
}
UPSTREAM: dict[str, list[Any]] = {"name": IDS, "by_host": FLAGS, "other": ["x"]}
DATES = [
    "2026-01-01", "2026-01-01T00:00:00", "2026-01-01 00:00:00Z", "2026-01-01T00:00:00.5+02:00",
    "2026-1-1", "2026-01-01T00:00Z", "00:00:00", "2026", "true",
]
# fmt: on


def taken(toml: str) -> bool:
    try:
        read_provisioning(toml, lambda name: public_der("own", "ES256"))
    except InvalidInput:
        return False
    return True


def agree(instance: dict[str, Any]) -> bool:
    """Give what both the schema and the reader say of an instance."""
    value = {"instance": [instance]}
    said = bool(JUDGE.is_valid(value))
    assert taken(write_table(value)) == said, f"the schema says {said} of {value!r}"
    return said


def cases(members: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(name, value) for name, values in members.items() for value in values + ANY]


GOOD = {"id": "L1", "feature": "f", "version": "1", "count": 1, "model": "metered"}


@pytest.mark.parametrize("model", list(Model))
def test_schema_and_reader_take_the_same_members_of_a_line(model: Model) -> None:
    for name, value in cases(LINE):
        # A reset and an undo are for metered lines, a licence for all but one kind, as schemas
        # cannot say.
        reusable = model is Model.METERED_REUSABLE and name == "licensespring"
        if not reusable and (model is Model.METERED or name not in ("reset", "undo_interval")):
            agree({"id": "I", "line": [{**GOOD, "model": model.value, name: value}]})


@pytest.mark.parametrize(
    ("table", "good", "members"),
    [
        ("key", {"public_file": "k.der"}, KEY),
        ("upstream", {"name": "u"}, UPSTREAM),
    ],
)
def test_schema_and_reader_take_the_same_members_of_a_table(
    table: str, good: dict[str, Any], members: dict[str, list[Any]]
) -> None:
    for name, value in cases(members):
        agree({"id": "I", table: [{**good, name: value}]})


def test_schema_and_reader_take_the_same_members_of_an_instance() -> None:
    for name, value in cases(INSTANCE):
        agree({"id": "I", name: value})


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_schema_and_reader_demand_the_same_members(missing: str) -> None:
    line = {name: value for name, value in GOOD.items() if name != missing}

    assert not agree({"id": "I", "line": [line]})
    assert not agree({"line": [GOOD]})
    assert not agree({"id": "I", "key": [{}], "upstream": [{}]})


@pytest.mark.parametrize("text", DATES)
@pytest.mark.parametrize("member", ["starts", "expires"])
def test_schema_and_reader_take_the_same_dates(member: str, text: str) -> None:
    """In the file they stand without quotes; what reads TOML for a schema gives them as text."""
    said = bool(JUDGE.is_valid({"instance": [{"id": "I", "line": [{**GOOD, member: text}]}]}))
    line = "".join(f"{name} = {write_value(value)}\n" for name, value in GOOD.items())

    assert said == taken(f'[[instance]]\nid = "I"\n[[instance.line]]\n{line}{member} = {text}\n')


def test_permanent_is_an_end_and_no_beginning() -> None:
    assert agree({"id": "I", "line": [{**GOOD, "expires": "permanent"}]})
    assert not agree({"id": "I", "line": [{**GOOD, "starts": "permanent"}]})


def test_an_empty_file_declares_nothing() -> None:
    for value in ({}, {"instance": []}, {"other": "x"}):
        assert not JUDGE.is_valid(value)
        assert not taken(write_table(value))


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_the_files_of_the_vectors_fit_the_schema(path: Path) -> None:
    document = tomllib.loads(path.read_text("utf-8"))
    value = json.loads(json.dumps(document, default=lambda moment: moment.isoformat()))

    JUDGE.validate(value)


def test_the_example_of_the_schema_is_a_file() -> None:
    JUDGE.validate(PROVISIONING)

    assert taken(provisioning_toml())
