"""The public contract as tests look at it: validators, and the plant that its examples tell of.

Decided here: how a schema of the OpenAPI document is judged by itself. Its judge is jsonschema,
with one correction: in the dialect of JSON Schema `$` is the very end, in Python's it is not.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker, ValidationError, validators
from msgspec.structs import replace

from gateway.core.model import Catalogue, Role, User
from gateway.core.passwords import hash_password
from gateway.core.provisioning import read_provisioning
from gateway.core.provisioning_change import next_catalogue
from gateway.core.toml_text import write_table
from gateway.protocols.openapi import document
from gateway.protocols.openapi_examples import LOGIN
from gateway.protocols.openapi_plant import PROVISIONING
from gateway.service.server import distribution_version
from tests.vectors.credentials import keys_of

SCHEMAS = Path(__file__).parent.parent / "schemas"
DOCUMENT = document(distribution_version())


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str):
        ended = re.sub(r"\$$", r"\\Z", pattern)
        if not re.search(ended, instance, re.ASCII):
            yield ValidationError(f"{instance!r} does not match {pattern!r}")


_Validator = validators.extend(Draft202012Validator, {"pattern": _pattern})


def judge(schema: dict[str, Any], *, closed: bool = False) -> Any:
    """Give the validator of a schema of the document; `closed`: of members it names, and no other.

    The answers of a gateway are closed: what it says, the document tells of.
    """
    whole = {**schema, "components": DOCUMENT["components"]}
    if closed:
        whole = _closed(whole)
    return _Validator(whole, format_checker=FormatChecker())


def judge_file(schema: dict[str, Any]) -> Any:
    """Give the validator of what a file of schemas/ says."""
    return _Validator(schema, format_checker=FormatChecker())


def committed(name: str) -> Any:
    """Give what a file of schemas/ says; a test of its own holds it to the code."""
    return json.loads((SCHEMAS / f"{name}.schema.json").read_bytes())


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: _closed(value) for name, value in schema.items()}
    return {"additionalProperties": False, **inner} if "properties" in schema else inner


def provisioning_toml(example: dict[str, Any] = PROVISIONING) -> str:
    """Write a provisioning file from its JSON, whose dates are text."""
    return write_table(_dated(example))


def plant() -> Catalogue:
    """Give the instance of the examples, with the administrator who logs in, and our keys."""
    (declared,) = read_provisioning(provisioning_toml(), lambda name: b"")
    login = LOGIN.value
    ann = User(
        login["user"],
        hash_password(login["password"].encode(), bytes(16)),
        tuple(role.value for role in Role),
    )
    catalogue = next_catalogue(Catalogue(id=declared.id), declared)
    return replace(catalogue, users=(ann,), keys=keys_of("own"))


def _dated(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {inner: _dated(each, inner) for inner, each in value.items()}
    if isinstance(value, list):
        return [_dated(each) for each in value]
    if name in ("starts", "expires") and value != "permanent":
        return (
            datetime.datetime.fromisoformat(value)
            if "T" in value
            else (datetime.date.fromisoformat(value))
        )
    return value
