"""Files and credentials of no good: each is read, or refused by InvalidInput, in bounded time.

A provisioning file, a key, an answer to be imported come from people, and from whoever sends them
files; tokens and sessions from anybody. What is odd is hostile_values.py's, as over HTTP.
"""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import SETTINGS, load_config
from gateway.core import keys
from gateway.core.errors import InvalidInput
from gateway.core.floating_sessions import verify_floating
from gateway.core.importing import import_features
from gateway.core.provisioning import read_provisioning
from gateway.core.sessions import SessionKey, verify_session
from gateway.core.tokens import TOKEN_BYTES_MAX
from tests.core.features_answers import METERED, SEATS
from tests.core.test_provisioning import INSTANCE, KEY, LINE, key_file
from tests.faults import hostile_values

CALM = settings(max_examples=150, derandomize=True, database=None, deadline=20_000)
DRAWS: Final = st.integers(0, 2**32).map(Random)

# As TOML is written: words of its own, and what its reader takes without a bound.
VALUES: Final = (
    "1", "-1", "1.5", "inf", "-nan", "true", '""', '"a\\nb"', '"\\u0000"', "'''\n'''", "[]", "{}",
    "[[1]]",
    "{ a = 1 }", "2026-01-01", "0001-01-01", "9999-12-31", "00:00:00", "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999999-23:59", "2026-02-30", "1e400", '"permanent"', '"1w"',
    '"99999999999w"', '"1%"',
    '"١%"', '"Europe/Paris"', '"../../etc/passwd"', '"/etc/passwd"', '"localtime"', '"UTC\\u0000"',
    '"."',
    '"' + "x" * 50_000 + '"', '"' + "9" * 5_000 + 'd"', "[" * 3_000 + "]" * 3_000, "{ a = " * 3_000,
)  # fmt: skip
NUMBERS: Final = ("9" * 5_000, "-" + "9" * 50_000, "0x" + "f" * 5_000, "0b" + "1" * 20_000)
MEMBERS: Final = (
    "id", "name", "default", "timezone", "require_exp", "borrow_interval", "borrow_interval_max",
    "key", "line",
    "feature", "version", "count", "model", "overdraft", "undo_interval", "reset",
    "reset_timezone", "starts",
    "expires", "renew_percent", "vendor_string", "selectors", "selectors.a", "product",
    "product.name",
    "licensespring", "licensespring.license_id", "kid", "alg", "public_file", '"\\u0000"', "a.b.c",
)  # fmt: skip
FILES: Final = (INSTANCE, INSTANCE + LINE, INSTANCE + LINE + KEY)


def _replaced(file: str, member: str, value: str) -> str:
    """Say something else of a member, or more, in the last table of a file."""
    kept = [line for line in file.splitlines() if not line.startswith(f"{member} =")]
    return "\n".join([*kept, f"{member} = {value}", ""])


def _read(text: str) -> None:
    with suppress(InvalidInput):
        read_provisioning(text, key_file)


@CALM
@given(st.sampled_from(FILES), st.sampled_from(MEMBERS), st.sampled_from(VALUES))
def test_a_provisioning_file_with_an_odd_member_is_read_or_refused(
    file: str, member: str, value: str
) -> None:
    _read(_replaced(file, member, value))


@CALM
@given(DRAWS)
def test_a_provisioning_file_that_is_spoiled_as_a_text_is_read_or_refused(draw: Random) -> None:
    file = draw.choice(FILES).encode()
    place = draw.randrange(len(file) + 1)
    odd = draw.choice((*hostile_values.ODD_LITERALS, draw.randbytes(5), b"[[", b"=", b"\r"))
    _read((file[:place] + odd + file[place + draw.randrange(3) :]).decode("utf-8", "replace"))


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("member", ["count", "feature", "expires", "unknown"])
def test_a_number_of_thousands_of_digits_is_told_as_what_it_is(member: str, number: str) -> None:
    """Python reads none of over 4,300 digits in decimal, and shows none that it read in hex."""
    with pytest.raises(InvalidInput) as refused:
        read_provisioning(_replaced(INSTANCE + LINE, member, number), key_file)
    assert len(refused.value.message) < 1_000


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("name", ["server.workers", "server.bind", "unknown.member"])
def test_a_setting_of_thousands_of_digits_is_told_as_what_it_is(
    tmp_path: Path, name: str, number: str
) -> None:
    section, _, member = name.partition(".")
    file = tmp_path / "gateway.toml"
    file.write_text(f"[{section}]\n{member} = {number}\n")
    with pytest.raises(InvalidInput) as refused:
        load_config(file, {}, {})
    assert len(refused.value.message) < 1_000


@CALM
@given(st.sampled_from(SETTINGS), st.sampled_from(VALUES))
def test_a_configuration_with_an_odd_setting_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: str
) -> None:
    section, _, member = name.partition(".")
    file = tmp_path_factory.getbasetemp() / "hostile-gateway.toml"
    file.write_text(f"[{section}]\n{member} = {value}\n")
    _load(file)
    variable = f"GATEWAY_{section}__{member}".upper()
    with suppress(InvalidInput):
        load_config(None, {variable: value.strip('"').replace("\0", "")}, {})


@CALM
@given(st.binary(max_size=60) | DRAWS.map(partial(hostile_values.spoiled, body=b'{"a": 1}')))
def test_a_configuration_of_any_bytes_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "hostile-bytes.toml"
    file.write_bytes(data)
    _load(file)


def _load(file: Path) -> None:
    with suppress(InvalidInput):
        load_config(file, {}, {})


@CALM
@given(DRAWS)
def test_an_answer_to_be_imported_is_read_or_refused(draw: Random) -> None:
    body = json.dumps([METERED, SEATS | {"featureName": hostile_values.value(draw)}]).encode()
    if draw.randrange(2):
        body = hostile_values.spoiled(draw, body)
    with suppress(InvalidInput):
        import_features(body, instance="I", timezone="UTC", default=False)


PEMS: Final = tuple(keys.private_pem(keys.generate(alg)) for alg in ("ES256", "EdDSA"))
PUBLICS: Final = tuple(keys.public_der(keys.load_private(pem).public_key()) for pem in PEMS)


@CALM
@given(DRAWS)
def test_a_key_that_is_spoiled_is_read_or_refused(draw: Random) -> None:
    data = bytearray(draw.choice((*PEMS, *PUBLICS)))
    for _ in range(draw.choice((1, 2, 9))):
        data[draw.randrange(len(data))] = draw.randrange(256)
    if draw.randrange(4) == 0:
        del data[draw.randrange(len(data)) :]
    for read in (keys.load_public, keys.load_private):
        with suppress(InvalidInput):
            read(bytes(data))


SECRET: Final = SessionKey(bytes(64))


@CALM
@given(st.text(max_size=40) | st.binary(max_size=40) | st.just("." * TOKEN_BYTES_MAX))
def test_what_nobody_issued_is_no_session(text: Any) -> None:
    for verify in (verify_session, verify_floating):
        assert verify(SECRET, text, instance="I", now_s=0) is None
