"""The provisioning file: what an operator declares of instances.

Decided here: which files are valid, with all that is wrong told at once. Not decided here: what a
value may be (provisioning_values.py), what a declaration changes (provisioning_change.py), how
files are read (cli/). Source: INTERFACE 3, SEMANTICS 1, 3, 7 and 10.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeAlias
from zoneinfo import ZoneInfo

from gateway.core import provisioning_values as values
from gateway.core.errors import InvalidInput
from gateway.core.floating import problems_of
from gateway.core.keys import algorithm_of, load_public, public_der, thumbprint
from gateway.core.model import (
    LINES_MAX,
    LINES_PER_FEATURE_MAX,
    UNITS_MAX,
    Attachment,
    Catalogue,
    FloatingLicense,
    Key,
    Line,
    Model,
    Product,
    Reset,
)
from gateway.core.periods import starts_ms, zone
from gateway.core.provisioning_change import difference, next_catalogue

__all__ = ["Declared", "difference", "next_catalogue", "read_provisioning"]

# An instance as a file declares it: a catalogue of version 0, its keys all provisioned.
Declared: TypeAlias = Catalogue


def read_provisioning(text: str, read_file: Callable[[str], bytes]) -> list[Declared]:
    """Read a provisioning file. `read_file` gives the bytes of a `public_file`, or raises OSError.

    Raises InvalidInput with every problem of the file, each naming instance and line.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number may be too long for Python to read
        raise InvalidInput(f"The file is not TOML: {error}") from None
    problems: list[str] = []
    top = values.Members(document, "", problems)
    declared = [_instance(members, read_file) for members in top.tables("instance")]
    top.end()
    if not declared and not problems:
        problems.append("The file declares no [[instance]]; add one")
    if sum(each.default for each in declared) > 1:
        problems.append("Two instances say default = true; leave it at one of them")
    problems += _repeated("instance", (each.id for each in declared))
    if problems:
        raise InvalidInput(*problems)
    return declared


def _instance(members: values.Members, read_file: Callable[[str], bytes]) -> Catalogue:
    timezone = members.get("timezone", values.zone_name, "UTC")
    tz = zone(timezone)
    lines = tuple(_line(each, tz) for each in members.tables("line"))
    keys = tuple(_key(each, read_file) for each in members.tables("key", "kid"))
    upstreams = tuple(_attachment(each) for each in members.tables("upstream", "name"))
    instance = Catalogue(
        id=members.get("id", values.id, "", required=True),
        name=members.get("name", values.text, ""),
        default=members.get("default", values.flag, False),
        timezone=timezone,
        require_signed_payload=members.get("require_signed_payload", values.flag, False),
        require_exp=members.get("require_exp", values.flag, True),
        borrow_ms=members.get("borrow_interval", values.span_ms, Catalogue(id="").borrow_ms),
        borrow_max_ms=members.get(
            "borrow_interval_max", values.span_ms, Catalogue(id="").borrow_max_ms
        ),
        lines=lines,
        keys=keys,
        upstreams=upstreams,
    )
    members.end()
    for kind, names in (
        ("line", [line.id for line in lines]),
        ("key", [key.kid for key in keys]),
        ("upstream", [upstream.name for upstream in upstreams]),
    ):
        for problem in _repeated(kind, names):
            members.refuse(problem)
    _judge_lines(members, lines)
    return instance


def _line(members: values.Members, tz: ZoneInfo) -> Line:
    count: int | None = members.get("count", values.count, None, required=True)
    overdraft = members.get("overdraft", values.overdraft, "0")
    product = members.table("product")
    licensespring = members.table("licensespring")
    line = Line(
        id=members.get("id", values.id, "", required=True),
        feature=members.get("feature", values.feature, "", required=True),
        version=members.get("version", values.version, "0", required=True),
        model=members.get("model", values.model, Model.METERED, required=True),
        count=count,
        overdraft=overdraft,
        capacity=_capacity(count, overdraft),
        undo_ms=members.get("undo_interval", values.span_or_zero_ms, 0),
        reset=members.get("reset", values.reset, Reset.NONE),
        reset_timezone=members.get("reset_timezone", values.zone_name, "UTC"),
        starts_ms=members.get("starts", lambda value: values.moment_ms(value, tz, starts_ms), None),
        expires_ms=members.get("expires", lambda value: values.expiry_ms(value, tz), None),
        borrow_ms=members.get("borrow_interval", values.span_ms, None),
        renew_percent=members.get("renew_percent", values.percent, 15),
        vendor_string=members.get("vendor_string", values.text, ""),
        serial_number=members.get("serial_number", values.text, ""),
        issuer=members.get("issuer", values.text, ""),
        notice=members.get("notice", values.text, ""),
        selectors=members.get("selectors", values.selectors, {}),
        product=Product() if product is None else _product(product),
        licensespring=None if licensespring is None else _floating_license(licensespring),
        allow_negative_consumptions=members.get("allow_negative_consumptions", values.flag, False),
        client_overages=members.get("client_overages", values.flag, False),
    )
    members.end()
    if line.capacity > UNITS_MAX:
        members.refuse(f"count and overdraft are over {UNITS_MAX} together; lower one of them")
    if line.model.reusable and line.reset is not Reset.NONE:
        members.refuse(f"reset is for metered lines, this one is {line.model}; remove it")
    if line.model.reusable and line.undo_ms:
        members.refuse(f"undo_interval is for metered lines, this one is {line.model}; remove it")
    if line.starts_ms and line.expires_ms and line.starts_ms >= line.expires_ms:
        members.refuse("expires is not after starts; move one of them")
    return line


def _product(members: values.Members) -> Product:
    product = Product(
        name=members.get("name", values.text, None),
        version=members.get("version", values.text, None),
        activation_id=members.get("activation_id", values.text, None),
        entitlement_id=members.get("entitlement_id", values.text, None),
    )
    members.end()
    return product


def _floating_license(members: values.Members) -> FloatingLicense:
    floating = FloatingLicense(
        license_id=members.get("license_id", values.license_id, None),
        product=members.get("product", values.text, ""),
        feature=members.get("feature", values.text, ""),
        license_key=members.get("license_key", values.text, ""),
    )
    members.end()
    return floating


def _attachment(members: values.Members) -> Attachment:
    attachment = Attachment(
        name=members.get("name", values.id, "", required=True),
        by_host=members.get("by_host", values.flag, False),
    )
    members.end()
    return attachment


def _key(members: values.Members, read_file: Callable[[str], bytes]) -> Key:
    kid = members.get("kid", values.kid, "")
    alg = members.get("alg", values.alg, "")
    file = members.get("public_file", values.file_name, "", required=True)
    members.end()
    if not file:
        return Key(kid=kid, alg=alg, public=b"", provisioned=True)
    try:
        public = load_public(read_file(file))
    except OSError as error:
        members.refuse(f"public_file {file} cannot be read: {error.strerror}")
    except InvalidInput as error:
        members.refuse(f"public_file {file}: {error.message}")
    else:
        if alg not in ("", algorithm_of(public)):
            members.refuse(f"alg is {alg}, but the key is one for {algorithm_of(public)}")
        der = public_der(public)
        return Key(kid or thumbprint(public), algorithm_of(public), der, provisioned=True)
    return Key(kid=kid, alg=alg, public=b"", provisioned=True)


def _judge_lines(members: values.Members, lines: tuple[Line, ...]) -> None:
    """Refuse what no single line can tell: how many there are, two models under one name, and
    lines that are no licence together.
    """
    if len(lines) > LINES_MAX:
        members.refuse(f"{len(lines)} lines; at most {LINES_MAX}")
    first: dict[str, Line] = {}
    for line in lines:
        other = first.setdefault(line.feature, line)
        if other.model is not line.model:
            members.refuse(
                f"line {line.id}: feature {line.feature} is {line.model} here and {other.model} on"
                f" line {other.id}; all lines of one feature name have the same model"
            )
    for feature, count in Counter(line.feature for line in lines).items():
        if count > LINES_PER_FEATURE_MAX:
            members.refuse(
                f"feature {feature} has {count} lines; at most {LINES_PER_FEATURE_MAX} a feature"
            )
    for problem in problems_of(lines):
        members.refuse(problem)


def _repeated(kind: str, names: Iterable[str]) -> list[str]:
    return [
        f"{kind} {name} is declared {times} times; give each an id of its own"
        for name, times in Counter(names).items()
        if times > 1 and name
    ]


def _capacity(count: int | None, overdraft: str) -> int:
    if count is None or overdraft == "unlimited":
        return UNITS_MAX
    percent = values.PERCENT.fullmatch(overdraft)
    return count + (count * int(percent[1]) // 100 if percent else int(overdraft))
