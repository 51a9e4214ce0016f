"""`request` against a real gateway process, and against servers that misbehave (INTERFACE 1)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.cli import request as request_module
from gateway.cli.answers import AnswerRefused, check_answer
from gateway.cli.request import find_target, read_feature
from gateway.core.errors import InvalidInput
from gateway.core.keys import generate, jwk, private_pem, public_der, thumbprint
from gateway.core.model import Catalogue, Key, Line, Model
from gateway.core.tokens import sign_answer, sign_payload
from gateway.store.opening import open_store

INSTANCE = "DEMO00000001"
LINES = (
    Line(id="L1", feature="sessions", version="1.0", model=Model.METERED, count=100, capacity=100),
    Line(id="L2", feature="a:b", version="2.0", model=Model.METERED, count=10, capacity=10),
)


class Gateway:
    """A running gateway, its keys, and what its ledger says."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url, self.directory = url, directory

    def request(self, key: str, *arguments: str, url: str | None = None) -> Result:
        return CliRunner().invoke(
            main,
            [
                *("request", url or self.url, "--instance", INSTANCE, "--host", "string:h1"),
                *("--key", str(self.directory / f"{key}.pem"), *arguments),
            ],
        )

    def acked(self) -> int:
        """Units of L1 that were ever granted."""

        async def read() -> int:
            async with open_store("embedded", self.directory / "var", partitions=256) as store:
                ledger = store.catalogues.keys(INSTANCE).ledger
                return int(await store.client.hget(ledger, "acked|L1") or 0)

        return asyncio.run(read())


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("request")
    keys = {alg: generate(alg) for alg in ("RS256", "ES256", "EdDSA")}
    for alg, private in keys.items():
        (directory / f"{alg}.pem").write_bytes(private_pem(private))
    command = [sys.executable, "-c", "from gateway.cli import main; main()"]
    command += ["serve", "--bind", "127.0.0.1:0", "--no-forward"]
    with subprocess.Popen(
        [*command, "--data-dir", str(directory / "var")], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            word, _, url = process.stdout.readline().strip().partition(" ")
            assert word == "ready"
            asyncio.run(_provision(directory / "var", keys))
            yield Gateway(url, directory)
        finally:
            process.kill()


async def _provision(data_dir: Path, keys: dict[str, Any]) -> None:
    public = {alg: private.public_key() for alg, private in keys.items()}
    async with open_store("embedded", data_dir, partitions=256) as store:
        client_keys = tuple(
            Key(thumbprint(key), alg, public_der(key)) for alg, key in public.items()
        )
        await store.catalogues.put(
            Catalogue(id=INSTANCE, default=True, lines=LINES, keys=client_keys)
        )


@pytest.mark.parametrize("key", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("options", [(), ("--signed",)])
def test_each_kind_of_key_asks_plainly_and_signed(
    gateway: Gateway, key: str, options: tuple[str, ...]
) -> None:
    before = gateway.acked()
    told = gateway.request(key, "--feature", "sessions:1.0:2", *options)
    assert told.exit_code == 0, told.stderr
    answer = json.loads(told.stdout)
    assert answer["statusList"] == []
    assert [(each["name"], each["count"]) for each in answer["features"]] == [("sessions", 2)]
    assert ("requestId" in answer) == bool(options)
    assert gateway.acked() == before + 2


def test_a_denial_is_shown_and_exits_3(gateway: Gateway) -> None:
    before = gateway.acked()
    told = gateway.request("RS256", "--feature", "sessions:1.0:1000")
    assert told.exit_code == 3
    assert json.loads(told.stdout)["statusList"][0]["code"] == "FEATURE_COUNT_INSUFFICIENT"
    assert gateway.acked() == before


def test_the_same_id_counts_once(gateway: Gateway) -> None:
    before = gateway.acked()
    arguments = ("--feature", "sessions::3", "--id", "once")
    first, second = (gateway.request("RS256", *arguments) for _ in range(2))
    assert first.stdout == second.stdout
    assert gateway.acked() == before + 3


def test_an_error_is_one_sentence_with_its_key_and_exits_1(gateway: Gateway) -> None:
    before = gateway.acked()
    told = gateway.request("RS256", "--kid", "nobody", "--feature", "sessions")
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr.startswith("HTTP 401, gateway.unauthorized: ")
    assert len(told.stderr.splitlines()) == 1
    assert gateway.acked() == before


def test_the_base_of_the_instance_will_do_as_url(gateway: Gateway) -> None:
    for named in (INSTANCE, "~"):
        base = f"{gateway.url}/api/1.0/instances/{named}"
        told = gateway.request("ES256", "--feature", "a:b:2.0:1", "--signed", url=base)
        assert told.exit_code == 0, told.stderr
    assert json.loads(told.stdout)["features"][0]["name"] == "a:b"


def test_a_server_that_is_not_there_is_tried_again_under_one_id_then_1(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_module, "PAUSE_S", 0.0)
    told = gateway.request(
        "RS256", "--feature", "sessions", "--id", "i-1", url="http://127.0.0.1:1"
    )
    assert (told.exit_code, told.stdout) == (1, "")
    lines = told.stderr.splitlines()
    assert len(lines) == request_module.TRIES_MAX
    assert all("i-1" in line for line in lines)


@contextmanager
def answering(answers: list[tuple[int, bytes] | None]) -> Iterator[tuple[str, list[str | None]]]:
    """Serve answers in order, None being a connection that is cut; yields the ids that came."""
    ids: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            ids.append(self.headers["Idempotency-Key"])
            answer = answers.pop(0)
            if answer is not None:
                self.send_response(answer[0])
                self.send_header("Content-Length", str(len(answer[1])))
                self.end_headers()
                self.wfile.write(answer[1])
            self.close_connection = True

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", ids
        finally:
            server.shutdown()
            thread.join()


def test_an_answer_that_is_cut_off_is_asked_for_again_under_the_same_id(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_module, "PAUSE_S", 0.0)
    good = (200, b'{"features":[],"statusList":[]}')
    with answering([None, None, good]) as (url, ids):
        told = gateway.request("RS256", url=url)
    assert told.exit_code == 0, told.stderr
    assert len(ids) == 3
    assert ids[0]
    assert len(set(ids)) == 1
    assert told.stderr.count(f"same id {ids[0]}") == 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, b"[]"), "not a JSON object"),
        ((200, b"<html>"), "not a JSON object"),
        ((500, b"oops"), "HTTP 500, without a word"),
        ((302, b""), "HTTP 302"),
        ((503, b'{"key":"gateway.unavailable","message":"m","arguments":[]}'), "try again with"),
    ],
)
def test_what_is_no_answer_is_a_failure_in_one_sentence(
    gateway: Gateway, answer: tuple[int, bytes], words: str
) -> None:
    with answering([answer]) as (url, _):
        told = gateway.request("RS256", url=url)
    assert (told.exit_code, told.stdout) == (1, "")
    assert words in told.stderr
    assert len(told.stderr.splitlines()) == 1


def test_an_unsigned_answer_is_never_taken_for_a_signed_one(gateway: Gateway) -> None:
    with answering([(200, b'{"features":[],"statusList":[]}')]) as (url, _):
        told = gateway.request("RS256", "--signed", url=url)
    assert (told.exit_code, told.stdout) == (1, "")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--feature", "sessions:1.x!"), "--feature"),
        (("--feature", ""), "--feature"),
        (("--host", "h1"), "--host"),
        (("--host", "planet:mars"), "--host"),
        (("--borrow", "soon"), "--borrow"),
        (("--id", "two words"), "--id"),
        (("--instance", "a/b"), "--instance"),
        (("--instance", "~", "--signed"), "--instance"),
        (("--key", "/nowhere.pem"), "/nowhere.pem"),
    ],
)
def test_bad_flags_are_named_and_exit_2(
    gateway: Gateway, flags: tuple[str, ...], words: str
) -> None:
    before = gateway.acked()
    told = gateway.request("RS256", *flags)
    assert (told.exit_code, told.stdout) == (2, "")
    assert words in told.stderr
    assert gateway.acked() == before


@pytest.mark.parametrize(
    ("text", "feature"),
    [
        ("sessions", {"name": "sessions", "count": 1}),
        ("sessions:1.0", {"name": "sessions", "version": "1.0", "count": 1}),
        ("sessions:1.0:42", {"name": "sessions", "version": "1.0", "count": 42}),
        ("sessions::-3", {"name": "sessions", "count": -3}),
        ("a:b", {"name": "a:b", "count": 1}),
        ("a:b:1.0", {"name": "a:b", "version": "1.0", "count": 1}),
        ("a:1:2:3", {"name": "a:1", "version": "2", "count": 3}),
        ("my feature/x:7", {"name": "my feature/x", "version": "7", "count": 1}),
    ],
)
def test_a_feature_is_read_from_the_right(text: str, feature: dict[str, Any]) -> None:
    assert read_feature(text) == feature


@pytest.mark.parametrize(
    "url", ["", "host:7070", "ftp://h", "http://", "http://u:p@h", "http://h?x=1", "http://h:x"]
)
def test_what_is_no_address_is_bad_input(url: str) -> None:
    with pytest.raises(InvalidInput, match="URL must be"):
        find_target(url, INSTANCE)


def test_a_base_of_another_instance_is_bad_input() -> None:
    with pytest.raises(InvalidInput, match="OTHER"):
        find_target("http://h/api/1.0/instances/OTHER", INSTANCE)


NOW_S = 1_800_000_000
EXPECTED = {"instanceId": "I", "requestId": "r"}


@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA"])
def test_a_signed_answer_is_believed_when_everything_fits(alg: str) -> None:
    private = generate(alg)
    payload = msgspec.json.encode({**EXPECTED, "iat": NOW_S})
    keys = {"keys": [{"kid": "other"}, jwk(private.public_key(), "k")]}
    text = sign_answer(private, "k", payload)
    assert check_answer(text, keys, expected=EXPECTED, now_s=NOW_S + 5) == payload


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"instanceId": "other"}, "instanceId"),
        ({"requestId": "other"}, "requestId"),
        ({"iat": NOW_S - 3_600}, "not of now"),
        ({"iat": "now"}, "not of now"),
    ],
)
def test_a_signed_answer_to_another_question_is_refused(
    change: dict[str, object], words: str
) -> None:
    private = generate("EdDSA")
    payload = msgspec.json.encode({**EXPECTED, "iat": NOW_S, **change})
    keys = {"keys": [jwk(private.public_key(), "k")]}
    with pytest.raises(AnswerRefused, match=words):
        check_answer(sign_answer(private, "k", payload), keys, expected=EXPECTED, now_s=NOW_S)


def test_a_signed_answer_by_an_unknown_key_or_of_another_type_is_refused() -> None:
    private, stranger = generate("ES256"), generate("ES256")
    payload = msgspec.json.encode({**EXPECTED, "iat": NOW_S})
    keys = {"keys": [jwk(private.public_key(), "k")]}
    for text, words in (
        (sign_answer(stranger, "k", payload), "signature"),
        (sign_answer(private, "unknown", payload), "not among"),
        (sign_payload(private, "k", {**EXPECTED, "iat": NOW_S}), "something else"),
        (payload, "not signed"),
    ):
        with pytest.raises(AnswerRefused, match=words):
            check_answer(text, keys, expected=EXPECTED, now_s=NOW_S)
