"""`explain` as a person types it, after a gateway that kept why has answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from tests.vectors.served import serving
from tests.web.doors import Door, at

FEATURES = [{"name": "sessions", "count": 7}, {"name": "editor", "version": "9"}]


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A data dir, and the instance in it whose request `W-1` was denied."""
    data_dir = tmp_path_factory.mktemp("explain")
    named: list[str] = []

    async def story(door: Door) -> None:
        named.append(door.instance)
        body = {"hostId": {"type": "user", "value": "ann"}, "features": FEATURES} | {
            "selectorsDictionary": {"\x1b[2Jregion": "eu\r\nfake"}
        }
        assert (await door.knock(body, {"Idempotency-Key": "W-1"})).status_code == 200

    with serving(data_dir, prelude=None, EXPLAIN__RETENTION="1h") as served:
        at(served, story)
    return data_dir, named[0]


def explain(answered: tuple[Path, str], *arguments: str) -> Result:
    typed = ["explain", *arguments, "--data-dir", str(answered[0])]
    return CliRunner().invoke(main, typed, prog_name="cmapi-gateway")


def test_it_tells_line_by_line_why_nothing_was_granted(answered: tuple[Path, str]) -> None:
    result = explain(answered, answered[1], "W-1")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("user:ann at 20")
    assert "all or nothing, '\\x1b[2Jregion'='eu\\r\\nfake'" in result.output
    assert "\x1b" not in result.output
    assert (
        "sessions (metered):\nversion 0: asked 7, granted 0. It could be served, but another"
        " feature fell short and partial was false" in result.output
    )
    assert "VERSION_TOO_HIGH" in result.output


def test_json_is_what_the_endpoint_answers(answered: tuple[Path, str]) -> None:
    result = explain(answered, answered[1], "W-1", "--format", "json")
    told = json.loads(result.output)
    assert (told["id"], told["instanceId"]) == ("W-1", answered[1])
    assert [each["wants"][0]["granted"] for each in told["features"]] == [0, 0]


def test_an_unknown_id_or_instance_is_one_sentence(answered: tuple[Path, str]) -> None:
    unknown = explain(answered, answered[1], "W-2")
    assert unknown.exit_code == 1
    assert "explain.retention" in unknown.output
    nowhere = explain(answered, "NOWHERE", "W-1")
    assert nowhere.exit_code == 2
    assert "There is no instance 'NOWHERE'" in nowhere.output
