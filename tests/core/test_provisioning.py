"""Provisioning: which files are valid, what they mean, and what they change in a catalogue."""

from __future__ import annotations

from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from msgspec.structs import replace

from gateway.core.errors import InvalidInput
from gateway.core.keys import generate, public_der, public_pem, thumbprint
from gateway.core.model import (
    LINES_MAX,
    LINES_PER_FEATURE_MAX,
    RS256_KEYS_MAX,
    UNITS_MAX,
    Catalogue,
    Key,
    Line,
    Reset,
)
from gateway.core.provisioning import difference, next_catalogue, read_provisioning

INSTANCE = '[[instance]]\nid = "I"\n'
LINE = (
    '[[instance.line]]\nid = "L1"\nfeature = "f"\nversion = "1.0"\ncount = 5\nmodel = "metered"\n'
)
EDITOR = LINE.replace("L1", "L2").replace('"f"', '"g"').replace("metered", "concurrent")
KEY = '[[instance.key]]\nkid = "k1"\npublic_file = "es.pem"\n'


@cache
def key_file(name: str) -> bytes:
    if name.startswith("es"):
        return public_pem(generate("ES256").public_key())
    if name.startswith("rsa"):
        return public_pem(rsa.generate_private_key(65_537, 2048).public_key())
    if name == "weak.pem":
        return public_pem(rsa.generate_private_key(65_537, 1024).public_key())  # noqa: S505
    raise FileNotFoundError(2, "No such file or directory")


def read(text: str) -> Catalogue:
    (declared,) = read_provisioning(text, key_file)
    return declared


def line_of(extra: str, base: str = LINE, instance: str = INSTANCE) -> Line:
    return read(instance + base + extra).lines[0]


def refusal(text: str) -> tuple[str, ...]:
    with pytest.raises(InvalidInput) as caught:
        read_provisioning(text, key_file)
    return caught.value.problems


def in_force(text: str, version: int = 1) -> Catalogue:
    declared = read(text)
    return replace(next_catalogue(Catalogue(id=declared.id), declared), version=version)


WRONG_LINE = [
    ('id = "L1"', 'id = "L 1"', "line #1: id must be 1 to 64 of A-Z"),
    ('id = "L1"\n', "", "line #1: id is missing; add it"),
    ('"f"', '"f|g"', "line L1: feature must be 1 to 128 letters"),
    ('"f"', f'"{"f" * 129}"', "feature must be 1 to 128 letters"),
    ('"1.0"', '"1.x"', "version must be a string of numbers joined by dots"),
    ('"1.0"', "1.0", "version must be a string of numbers joined by dots"),
    ("count = 5", "count = -1", "count must be a whole number from 0 to 9007199254740991"),
    ("count = 5", "count = 5.0", "count must be a whole number"),
    ("count = 5", "count = true", "count must be a whole number"),
    ("count = 5", 'count = "5"', "or \"uncounted\", not '5'"),
    ("count = 5", f"count = {UNITS_MAX + 1}", "count must be a whole number"),
    ("count = 5\n", "", "count is missing; add it"),
    ('"metered"', '"floating"', "model must be one of metered, metered-reusable, concurrent"),
    ('"metered"', "['metered']", "model must be one of metered"),
]

WRONG_EXTRA = [
    ('overdraft = "ten"', "overdraft must be a whole number from 0 to 9007199254740991, a perc"),
    ("overdraft = -1", "overdraft must be a whole number"),
    ('overdraft = "10.5%"', "overdraft must be a whole number"),
    (f"overdraft = {UNITS_MAX}", "count and overdraft are over 9007199254740991 together"),
    ('undo_interval = "1y"', 'undo_interval must be a duration such as "1h"'),
    ('undo_interval = "3661d"', "undo_interval must be a duration"),
    ("undo_interval = 60", "undo_interval must be a duration"),
    ('reset = "hourly"', "reset must be one of none, daily, weekly, monthly, annually"),
    ('reset_timezone = "Mars/Base"', "reset_timezone: unknown time zone 'Mars/Base'"),
    ('starts = "2026-01-01"', "starts must be a date or a date-time without quotes"),
    ("starts = 1800-01-01", "starts: 1800-01-01 is not a day from 1900-01-01"),
    ("starts = 12:00:00", "starts must be a date"),
    ('expires = "never"', 'without quotes, or "permanent"'),
    ("starts = 2026-01-02\nexpires = 2026-01-01", "expires is not after starts"),
    ('borrow_interval = "0"', "borrow_interval must be a duration of at least 1s"),
    ("renew_percent = 101", "renew_percent must be a whole number from 0 to 100"),
    ('vendor_string = "a\\u0007"', "vendor_string must be a text of at most 256 bytes"),
    (f'notice = "{"é" * 129}"', "notice must be a text of at most 256 bytes"),
    ("serial_number = 7", "serial_number must be a text"),
    ('issuer = "a\\nb"', "issuer must be a text"),
    ("selectors = { region = 1 }", "selectors must be a table of at most 64 strings"),
    (f'selectors = {{ region = "{"x" * 257}" }}', "selectors must be a table"),
    ('selectors = "eu"', "selectors must be a table"),
    ("product = { nam = 'x' }", "line L1, product: 'nam' is not a member"),
    ("product = 'x'", "product must be a table"),
    ("licensespring = { license_id = 'x' }", "licensespring: license_id must be a whole number"),
    ("licensespring = { key = 'x' }", "licensespring: 'key' is not a member"),
    ("client_overages = 1", "client_overages must be true or false"),
    ("allow_negative_consumptions = 'no'", "allow_negative_consumptions must be true or false"),
    ("capacity = 9", "'capacity' is not a member; expected one of"),
]

WRONG_FILE = [
    ("[[instance]", "The file is not TOML"),
    ("", "The file declares no [[instance]]"),
    ("[instance]\nid = 'I'", "instance must be tables; write them as [[instance]]"),
    ("[server]\n" + INSTANCE, "'server' is not a member; expected one of instance"),
    (INSTANCE + "timezone = 'Mars/Base'", "instance I: timezone: unknown time zone"),
    (INSTANCE + "timezone = 1", "timezone must be the name of a time zone"),
    (INSTANCE + "default = 'yes'", "instance I: default must be true or false"),
    (INSTANCE + "name = 'a\\tb'\nnam = 1", "'nam' is not a member"),
    (INSTANCE + "borrow_interval = '0'", "borrow_interval must be a duration of at least 1s"),
    (INSTANCE + "borrow_interval_max = '1x'", "borrow_interval_max must be a duration"),
    (INSTANCE.replace('"I"', '"a/b"'), "instance #1: id must be 1 to 64"),
    (INSTANCE + INSTANCE, "instance I is declared 2 times"),
    (
        (INSTANCE + "default = true\n") + (INSTANCE.replace("I", "J") + "default = true\n"),
        "Two instances say default = true",
    ),
    (INSTANCE + LINE + LINE, "instance I: line L1 is declared 2 times"),
    (
        INSTANCE + LINE + EDITOR.replace('"g"', '"f"'),
        "line L2: feature f is concurrent here and metered on line L1",
    ),
    (INSTANCE + EDITOR + "reset = 'daily'", "line L2: reset is for metered lines"),
    (INSTANCE + EDITOR + "undo_interval = '1h'", "line L2: undo_interval is for metered lines"),
    (INSTANCE + "[[instance.upstream]]\nname = 'a b'", "upstream #1: name must be 1 to 64"),
    (INSTANCE + "[[instance.upstream]]\nname = 'a'\n" * 2, "upstream a is declared 2 times"),
    (INSTANCE + "[[instance.upstream]]\nname = 'a'\nurl = 'x'", "upstream a: 'url' is not a"),
    (INSTANCE + KEY + KEY, "instance I: key k1 is declared 2 times"),
    (INSTANCE + KEY.replace("es.pem", "weak.pem"), "key k1: public_file weak.pem: The RSA key"),
    (INSTANCE + KEY.replace("es.pem", "none.pem"), "none.pem cannot be read: No such file"),
    (INSTANCE + KEY + "alg = 'RS256'", "key k1: alg is RS256, but the key is one for ES256"),
    (INSTANCE + KEY + "alg = 'HS256'", "alg must be one of RS256, ES256, EdDSA"),
    (INSTANCE + KEY + "secret = 1", "key k1: 'secret' is not a member"),
    (INSTANCE + KEY.replace('"k1"', '"k 1"'), "kid must be 1 to 255 visible ASCII"),
    (INSTANCE + "[[instance.key]]\nkid = 'k'", "key k: public_file is missing; add it"),
    (
        INSTANCE + "".join(LINE.replace("L1", f"L{n}") for n in range(LINES_PER_FEATURE_MAX + 1)),
        "instance I: feature f has 65 lines; at most 64 a feature",
    ),
]


@pytest.mark.parametrize(("old", "new", "sentence"), WRONG_LINE)
def test_wrong_member_of_a_line_is_refused(old: str, new: str, sentence: str) -> None:
    assert old in LINE
    problems = refusal(INSTANCE + LINE.replace(old, new))
    assert any(sentence in problem for problem in problems), problems
    assert all(problem.startswith("instance I, line ") for problem in problems)


@pytest.mark.parametrize(("extra", "sentence"), WRONG_EXTRA)
def test_wrong_further_member_of_a_line_is_refused(extra: str, sentence: str) -> None:
    problems = refusal(INSTANCE + LINE + extra)
    assert [sentence in problem for problem in problems] == [True], problems
    assert problems[0].startswith("instance I, line L1")


@pytest.mark.parametrize(("text", "sentence"), WRONG_FILE)
def test_wrong_file_is_refused(text: str, sentence: str) -> None:
    problems = refusal(text)
    assert any(sentence in problem for problem in problems), problems


def test_all_problems_are_told_together() -> None:
    text = INSTANCE + LINE.replace("5", "-5") + "nam = 1\n" + EDITOR + "reset = 'daily'\n"
    text += INSTANCE.replace("I", "J") + "timezone = 'X'\n"
    assert len(refusal(text)) == 4


def test_over_ten_thousand_lines_are_refused() -> None:
    lines = "".join(
        LINE.replace("L1", f"L{n}").replace('"f"', f'"f{n}"') for n in range(LINES_MAX + 1)
    )
    assert refusal(INSTANCE + lines) == ("instance I: 10001 lines; at most 10000",)


@pytest.mark.parametrize(
    ("count", "overdraft", "capacity"),
    [
        ("5", "0", 5),
        ("5", "2", 7),
        ("19", '"10%"', 20),
        ("100", '"250%"', 350),
        ("5", '"unlimited"', UNITS_MAX),
        ('"uncounted"', "0", UNITS_MAX),
        ('"uncounted"', '"10%"', UNITS_MAX),
        (f"{UNITS_MAX}", "0", UNITS_MAX),
    ],
)
def test_capacity_is_count_and_overdraft(count: str, overdraft: str, capacity: int) -> None:
    line = line_of(f"overdraft = {overdraft}", LINE.replace("count = 5", f"count = {count}"))
    assert capacity == line.capacity


@pytest.mark.parametrize(
    ("moment", "starts_ms", "expires_ms"),
    [
        ("2026-01-01", 1_767_222_000_000, 1_767_308_400_000),  # Paris is an hour ahead of UTC
        ("2026-01-01T00:00:00Z", 1_767_225_600_000, 1_767_225_600_000),
        ("2026-01-01T00:00:00+02:00", 1_767_218_400_000, 1_767_218_400_000),
        ("2026-01-01T00:00:00", 1_767_222_000_000, 1_767_222_000_000),
        ("1950-01-01", 1, 1),
    ],
)
def test_dates_are_read_in_the_zone_of_the_instance(
    moment: str, starts_ms: int, expires_ms: int
) -> None:
    paris = INSTANCE + "timezone = 'Europe/Paris'\n"
    assert starts_ms == line_of(f"starts = {moment}", instance=paris).starts_ms
    assert expires_ms == line_of(f"expires = {moment}", instance=paris).expires_ms


def test_line_is_permanent_unless_told() -> None:
    assert line_of("").expires_ms is None
    assert line_of('expires = "permanent"').expires_ms is None


def test_key_is_named_by_its_thumbprint_unless_told() -> None:
    (key,) = read(INSTANCE + "[[instance.key]]\npublic_file = 'es.pem'\n").keys
    assert key.alg == "ES256"
    assert len(key.kid) == 43
    assert key.provisioned


def test_same_file_twice_changes_nothing_whatever_its_order() -> None:
    current = in_force(INSTANCE + LINE + EDITOR + KEY)
    again = next_catalogue(current, read(INSTANCE + KEY + EDITOR + LINE))
    assert current == again
    assert difference(current, again) == []


def test_line_that_vanishes_is_retired_and_one_that_comes_back_is_in_force() -> None:
    current = in_force(INSTANCE + LINE + EDITOR)
    without = next_catalogue(current, read(INSTANCE + LINE))
    assert [line.retired for line in without.lines] == [False, True]
    assert difference(current, without) == ["- instance I, line L2: retired, its history stays"]
    without = replace(without, version=2)
    assert next_catalogue(without, read(INSTANCE + LINE)) == without
    back = next_catalogue(without, read(INSTANCE + LINE + EDITOR))
    assert current.lines == back.lines
    assert difference(without, back)[0].startswith("+ instance I, line L2: feature g")


def test_retired_line_may_leave_its_feature_to_another_model() -> None:
    current = in_force(INSTANCE + LINE)
    new = next_catalogue(current, read(INSTANCE + EDITOR.replace('"g"', '"f"')))
    assert [(line.id, line.retired) for line in new.lines] == [("L1", True), ("L2", False)]


def test_changed_reset_begins_a_new_period() -> None:
    current = in_force(INSTANCE + LINE, version=6)
    daily = next_catalogue(current, read(INSTANCE + LINE + "reset = 'daily'"))
    assert (daily.lines[0].reset, daily.lines[0].reset_epoch) == (Reset.DAILY, 7)
    assert difference(current, daily) == ["~ instance I, line L1: reset none -> daily"]
    daily = replace(daily, version=7)
    assert next_catalogue(daily, read(INSTANCE + LINE + "reset = 'daily'")) == daily
    moved = read(INSTANCE + LINE + "reset = 'daily'\nreset_timezone = 'Asia/Tokyo'")
    assert next_catalogue(daily, moved).lines[0].reset_epoch == 8


def test_time_zone_of_a_line_without_reset_begins_no_period() -> None:
    current = in_force(INSTANCE + LINE)
    moved = next_catalogue(current, read(INSTANCE + LINE + "reset_timezone = 'Asia/Tokyo'"))
    assert moved.lines[0].reset_epoch == 0


CANNOT = [
    (
        INSTANCE + LINE.replace("metered", "concurrent"),
        "instance I, line L1: model cannot change from metered to concurrent",
    ),
    (
        INSTANCE + LINE.replace('"f"', '"g"'),
        "instance I, line L1: feature cannot change from f to g",
    ),
    (INSTANCE + "timezone = 'Asia/Tokyo'\n" + LINE, "an instance that has counted keeps its time"),
    (
        INSTANCE + LINE + KEY + KEY.replace("k1", "k2"),
        "key k2: its public key (as k1) is given twice",
    ),
    (
        INSTANCE + LINE + KEY.replace("k1", "added"),
        "instance I, key added: its kid is given twice",
    ),
    (
        INSTANCE
        + "".join(
            KEY.replace("k1", f"r{n}").replace("es.pem", f"rsa{n}.pem")
            for n in range(RS256_KEYS_MAX + 1)
        ),
        f"instance I: over {RS256_KEYS_MAX} RS256 keys",
    ),
]


def added_key() -> Key:
    public = generate("EdDSA").public_key()
    return Key(kid="added", alg="EdDSA", public=public_der(public), forwarder=True)


@pytest.mark.parametrize(("text", "sentence"), CANNOT)
def test_what_an_instance_cannot_become_is_refused(text: str, sentence: str) -> None:
    current = replace(in_force(INSTANCE + LINE), keys=(added_key(),))
    before = replace(current)
    with pytest.raises(InvalidInput) as caught:
        next_catalogue(current, read(text))
    assert [sentence in problem for problem in caught.value.problems] == [True]
    assert before == current


def test_keys_of_the_file_follow_it_and_others_are_left_alone() -> None:
    added = added_key()
    current = replace(in_force(INSTANCE + KEY), keys=(added, *in_force(INSTANCE + KEY).keys))
    new = next_catalogue(current, read(INSTANCE + KEY.replace("k1", "k2")))
    assert [key.kid for key in new.keys] == ["added", "k2"]
    assert new.keys[0] == added
    told = difference(current, new)
    assert told[0].startswith("+ instance I, key k2: alg ES256, public ")
    assert told[1] == "- instance I, key k1"
    assert thumbprint(generate("EdDSA").public_key()) not in told[0]


def test_difference_names_old_and_new_and_hides_a_licence_key() -> None:
    current = in_force(INSTANCE + LINE + "licensespring = { license_key = 'hidden' }")
    text = INSTANCE + "default = true\nborrow_interval = '1d'\n" + LINE.replace("5", '"uncounted"')
    text += "expires = 2026-01-01T00:00:00Z\nlicensespring = { license_key = 'hidden too' }"
    told = difference(current, next_catalogue(current, read(text)))
    assert told[0] == "~ instance I: default false -> true, borrow_interval 1w -> 1d"
    assert "count 5 -> uncounted" in told[1]
    assert "expires permanent -> 2026-01-01T00:00:00.000Z" in told[1]
    assert "hidden" not in "".join(told)
