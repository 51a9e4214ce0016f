"""LicenseSpring clients of `demo`, without a process: what they send, and what they do not believe.

Source: protocols/licensespring.md 1.4, 1.5, 2 and 2.2, INTERFACE 1.
"""

from __future__ import annotations

import datetime
from itertools import islice
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.cli import main
from gateway.cli.demonstration.fleet import Sending, Strange
from gateway.cli.demonstration.licensespring import (
    FloatingJournal,
    FloatingSpeaker,
    Told,
    verifier,
)
from gateway.cli.demonstration.licensespring_mix import Act, Deed, acts
from gateway.cli.demonstration.scene import demo_lines
from gateway.cli.demonstration.wire import Reply
from gateway.core.floating import Licenses
from gateway.core.floating_signing import AnswerSigner

LINES = {line.feature: line for line in demo_lines(floating=True)}
SEAT = Act(Deed.REGISTER, "editor")
TAKE = Act(Deed.TAKE_FEATURE, "viewer")


def first(version: int, deed: Deed, *, verified: bool = True) -> tuple[Act, Sending, Any]:
    """Give the first request of this kind as a client of this version sends it, and the client."""
    who = FloatingSpeaker(
        number=3, seed=7, version=version, verify=lambda *_: verified, lines=LINES
    )
    for act, sending in zip(acts(7, 3), who.sendings(), strict=False):
        if act.deed is deed:
            return act, sending, who
    raise AssertionError(deed)


def parts(sending: Sending) -> tuple[str, str, Any]:
    head, _, body = sending.request.partition(b"\r\n\r\n")
    start, _, headers = head.decode().partition("\r\n")
    return start, headers, msgspec.json.decode(body)


def reply(body: object, status: int = 200, signature: str = "") -> Reply:
    return Reply(status, msgspec.json.encode(body), False, signature)


def test_same_seed_does_the_same_and_every_deed() -> None:
    drawn = list(islice(acts(7, 3), 500))
    assert drawn == list(islice(acts(7, 3), 500))
    assert drawn != list(islice(acts(8, 3), 500))
    assert {act.deed for act in drawn} == set(Deed)
    assert {act.feature for act in drawn} == set(LINES) - {"pages"}
    assert any(act.reset_after_s is not None for act in drawn)
    assert any(act.repeats for act in drawn)


def test_the_lines_are_one_licence() -> None:
    """Of the lines that clients of CMAPI ask for, those that LicenseSpring has a word for."""
    (only,) = Licenses(LINES.values()).all
    assert {line.id for line in only.lines} == set(LINES) - {"pages"}
    assert [line.id for line in demo_lines()] == list(LINES)[:-1]


def test_both_versions_are_spelled_as_clients_do() -> None:
    act, sending, _ = first(1, Deed.CONSUME_FEATURE)
    start, headers, body = parts(sending)
    assert start == "POST /api/v4/add_feature_consumption HTTP/1.1"
    assert "Idempotency-Key: demo-7-ls-003-" in headers
    assert (body["product"], body["user"], body["license_id"]) == ("DEMO", "demo-user-003", 1)
    assert (body["feature"], int(body["consumptions"])) == (act.feature, act.units)
    act, sending, _ = first(2, Deed.BORROW)
    start, _, body = parts(sending)
    assert start == "POST /api/v5/license/1/user/borrow HTTP/1.1"
    assert (body["username"], "product" in body) == ("demo-user-003", False)
    until = datetime.datetime.fromisoformat(body["borrowed_until"])
    assert until > datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=act.hours - 1)


def test_what_is_granted_and_refused_is_the_clients_own_reckoning() -> None:
    act, sending, who = first(1, Deed.CONSUME)
    assert sending.hear(reply({"total_consumptions": act.units + 5})) is False
    refused = {"status": 400, "code": "license_not_enough_consumptions", "message": "no"}
    assert sending.hear(reply(refused, 400)) is True
    units = who.journal.units["sessions"]
    assert (units.asked, units.granted, units.denied) == (2 * act.units, act.units, act.units)
    assert who.journal.oddities == []


@pytest.mark.parametrize(
    ("version", "answer", "strange"),
    [
        (1, reply({"status": 400, "code": "validation_error", "message": ""}, 400), "validation"),
        (1, reply({"message": "no"}, 400), "cannot be read"),
        (1, Reply(200, b"<html>", False), "cannot be read"),
        (2, reply({"total_consumptions": 1_000}), "without its signature"),
    ],
)
def test_what_may_not_be_answered_is_strange_and_counts_nothing(
    version: int, answer: Reply, strange: str
) -> None:
    _, sending, who = first(version, Deed.CONSUME_FEATURE, verified=False)
    with pytest.raises(Strange, match=strange):
        sending.hear(answer)
    assert who.journal.units == {}


@pytest.mark.parametrize(
    ("story", "odd"),
    [
        ([(Act(Deed.CONSUME, "sessions", 3), Told(2))], "total 0, then 3 more, answered 2"),
        (
            [
                (Act(Deed.CONSUME, "sessions", 3), Told(9)),
                (Act(Deed.CONSUME, "sessions", 1), Told(9)),
            ],
            "total 9, then 1 more, answered 9",
        ),
        ([(Act(Deed.CONSUME_FEATURE, "users", 1), Told(4_401))], "users: total 0, then 1 more"),
        ([(Act(Deed.CONSUME, "sessions", 1), Told())], "no total"),
        ([(SEAT, Told(floating_in_use=13))], "editor: 13 in use"),
        ([(SEAT, Told(floating_in_use=0))], "editor: 0 in use"),
        ([(SEAT, Told(floating_in_use=1)), (SEAT, "floating_not_available")], "refused what it"),
        ([(TAKE, Told(floating_in_use=1))], "viewer: answered yes, holding 0 seats"),
        ([(SEAT, Told(None, 1)), (TAKE, "license_not_found")], "holding 1 seats"),
    ],
)
def test_an_answer_that_cannot_be_is_noted(story: list[tuple[Act, Any]], odd: str) -> None:
    journal = FloatingJournal(LINES)
    for act, told in story:
        journal.record(act, *((None, told) if isinstance(told, str) else (told,)))
    (words,) = journal.oddities
    assert odd in words


def test_a_total_that_went_down_by_an_undo_of_others_is_not_odd() -> None:
    journal = FloatingJournal(LINES)
    for total in (50, 3):
        journal.record(Act(Deed.CONSUME_FEATURE, "users", 2), Told(total))
    assert journal.oddities == []
    assert journal.units["users"].granted == 4


def test_seats_are_held_once_until_they_are_given_back() -> None:
    journal = FloatingJournal(LINES)
    for act in (SEAT, SEAT, Act(Deed.BORROW, "editor"), TAKE, TAKE):
        journal.record(act, Told(floating_in_use=1))
    assert journal.held == {"editor": 1, "viewer": 1}
    journal.record(Act(Deed.UNREGISTER, "editor"), Told())
    assert journal.held == {"editor": 0, "viewer": 0}  # its features go with the seat
    editor, viewer = journal.units["editor"], journal.units["viewer"]
    assert (editor.granted, editor.returned, viewer.granted, viewer.returned) == (1, 1, 1, 1)
    assert journal.oddities == []


def test_signatures_are_of_the_very_bytes() -> None:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "leaf")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    day = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    leaf = made.not_valid_before(day).not_valid_after(day.replace(2027)).sign(key, hashes.SHA256())
    verify = verifier(leaf.public_bytes(Encoding.PEM))
    signature = AnswerSigner(key).sign(b'{"id":1}')
    assert verify(b'{"id":1}', signature)
    for body, given in ((b'{"id": 1}', signature), (b'{"id":1}', ""), (b'{"id":1}', "é")):
        assert not verify(body, given)


@pytest.mark.parametrize("words", ["cmapi,x", "", "cmapi,cmapi"])
def test_a_protocol_that_is_none_is_refused(words: str) -> None:
    result = CliRunner().invoke(main, ["demo", "--protocols", words])
    assert result.exit_code == 2
    assert "is no list of cmapi, licensespring" in result.output
