"""Logs: one stream, both forms, and nothing secret in it whoever logs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from gateway import logs

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def _set_back() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    logging.getLogger("gateway").setLevel(logging.NOTSET)
    structlog.reset_defaults()


def test_json_is_one_object_a_line_whoever_logs(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json", worker=2)
    structlog.get_logger("gateway.test").info("ours", count=3)
    logging.getLogger("gateway.test").info("plain %s", "words")
    logging.getLogger("hypercorn.error").warning("theirs")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["ours", "plain words", "theirs"]
    assert [line["level"] for line in lines] == ["info", "info", "warning"]
    assert all(line["worker"] == 2 and line["timestamp"].endswith("Z") for line in lines)
    assert lines[0]["count"] == 3


def test_what_is_below_the_level_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("warning", "console")
    structlog.get_logger("gateway.test").info("ours")
    logging.getLogger("gateway.test").info("plain")
    assert capsys.readouterr().err == ""


def test_libraries_tell_no_requests_even_at_debug(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("debug", "console")
    for library in ("httpx", "httpcore.http11", "hpack.hpack", "hypercorn.error", "asyncio"):
        logging.getLogger(library).info("GET https://host/secret")
    structlog.get_logger("gateway.test").debug("ours")
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("format_", ["console", "json"])
def test_secrets_are_blotted_out(format_: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", format_)
    log = structlog.get_logger("gateway.test")
    log.info("by name", token="opaque-1", password="opaque-2", body=b"opaque-3")
    log.info(f"by look {TOKEN}", header="Bearer opaque-4", url="redis://user:opaque-5@host:6379/0")
    log.info("-----BEGIN PRIVATE KEY-----\nopaque-6\n-----END PRIVATE KEY-----")
    logging.getLogger("hypercorn.error").error("as argument %s", TOKEN)
    captured = capsys.readouterr().err
    assert "opaque" not in captured
    assert TOKEN not in captured
    assert "@host:6379/0" in captured


@pytest.mark.parametrize("format_", ["console", "json"])
def test_an_exception_is_told_without_its_variables(
    format_: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up("info", format_)
    opaque = "opaque-" + "7"
    try:
        raise ValueError(f"no good: {TOKEN}")
    except ValueError:
        structlog.get_logger("gateway.test").exception("it failed", length=len(opaque))
        logging.getLogger("hypercorn.error").exception("it failed there")
    captured = capsys.readouterr().err
    assert captured.count("ValueError: no good: ***") == 2
    assert TOKEN not in captured
    assert "opaque-7" not in captured
