"""The schema of gateway.toml and the code that reads it agree, as far as schemas can tell.

Values are tried one at a time in a file that is good otherwise. What only the reader can tell:
intervals over 3660 d, and the name of an upstream given twice.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.config import SETTINGS, load_config
from gateway.core.errors import InvalidInput
from gateway.settings import UPSTREAM_KINDS
from tests.contract import committed, judge_file

SCHEMA = committed("configuration")
JUDGE = judge_file(SCHEMA)

# fmt: off
ANYTHING = ["", "x", "a\n", True, False, 0, 1, -1, 0.5, 10**9, [], ["a"], ["a", 1], {}, {"a": "b"}]
SPANS = ["0", "1s", "0d", "1h", "07d", "1H", "h", "1h\n"]
NAMED: dict[str, list[Any]] = {
    "server.bind": ["0.0.0.0:1", "[::1]:0", "h:65535", "h:65536", ":1", "h", "h:1\n"],
    "server.max_body_bytes": [1_023, 1_024, 2**20, 2**20 + 1, 2_000.5],
    "server.drain_s": [0, 0.5, 60, 60.5],
    "redis.url": [
        "embedded", "redis://h:1", "rediss://u:p@h", "unix:///s", "http://h", "redis+sentinel://h",
        "redis://h:1/0?a=b", "redis://h h", "redis+sentinel://h/N", "redis+sentinel://u:p@h:1,i/N?a=b",
        "rediss+cluster://h,[::1]:2", "redis+cluster://h/?a=b", "redis+cluster://h/1", "redis+cluster://,",
    ],
    "redis.ack": ["memory", "written", "local", "replica", "replica_fsync", "Written", "local\n"],
    "report.retention": ["25mo", "0mo", "1000mo", "1y"],
    "signing.alg": ["EdDSA", "ES256", "RS256", "HS256"],
    "log.level": ["debug", "info", "warning", "error", "fatal"],
    "log.format": ["console", "json", "xml"],
}
UPSTREAMS: dict[str, dict[str, Any]] = {
    "cmapi": {"name": "u", "kind": "cmapi", "url": "https://h/x", "key_file": "k"},
    "cloudevents": {"name": "u", "kind": "cloudevents", "url": "http://h:1"},
    "licensespring": {
        "name": "u", "kind": "licensespring", "url": "https://h", "api_key_file": "a",
        "shared_key_file": "s", "hardware_id": "gateway-1",
    },
    "spool": {"name": "u", "kind": "spool", "dir": "d"},
}
OF_UPSTREAM: dict[str, list[Any]] = {
    "name": ["a.b-c_1", "a b", "a" * 64, "a" * 65],
    "url": ["https://h/x", "ftp://h", "https://u:p@h", "https://h?q", "https://h/a b", "https://h:70000"],
    "interval": SPANS,
    "dedupe_horizon": SPANS,
    "hardware_id": ["gateway-1", "a b", "a" * 128, "a" * 129, "\u00e9"],
    "kind": ["cmapi", "licensespring", "spool ", "cloud"],
}
# fmt: on


def agree(tmp_path: Path, value: dict[str, Any]) -> bool:
    """Give what both the schema and the reader say of a file."""
    said = bool(JUDGE.is_valid(value))
    path = tmp_path / "gateway.toml"
    path.write_text(_toml(value), encoding="utf-8")
    try:
        load_config(path, {}, {})
    except InvalidInput as error:
        assert not said, f"only the schema takes {value!r}: {error}"  # noqa: PT017 - with its words
        return False
    assert said, f"only the reader takes {value!r}"
    return True


def _toml(value: dict[str, Any]) -> str:
    """Write sections and arrays of tables; JSON spells all other values as TOML does."""
    lines = []
    for name, table in value.items():
        if isinstance(table, dict):
            lines += [f"[{name}]", *_members(table)]
        elif isinstance(table, list) and table and all(isinstance(each, dict) for each in table):
            for each in table:
                lines += [f"[[{name}]]", *_members(each)]
        else:
            lines.insert(0, f"{name} = {json.dumps(table)}")
    return "\n".join(lines) + "\n"


def _members(table: dict[str, Any]) -> list[str]:
    return [
        f"{name} = {_inline(value) if isinstance(value, dict) else json.dumps(value)}"
        for name, value in table.items()
    ]


def _inline(value: dict[str, str]) -> str:
    return "{" + ", ".join(f"{name} = {json.dumps(each)}" for name, each in value.items()) + "}"


@pytest.mark.parametrize("setting", SETTINGS)
def test_schema_and_reader_take_the_same_values_of_a_setting(tmp_path: Path, setting: str) -> None:
    section, name = setting.split(".")
    default = _default(section, name)
    said = [
        agree(tmp_path, {section: {name: value}})
        for value in [default, *NAMED.get(setting, []), *SPANS, *ANYTHING]
    ]

    assert said[0], "its default is a value of it"
    assert not all(said)


def _default(section: str, name: str) -> Any:
    table = SCHEMA["$defs"][SCHEMA["properties"][section]["$ref"].rpartition("/")[2]]
    return table["properties"][name]["default"]


@pytest.mark.parametrize("kind", sorted(UPSTREAM_KINDS))
def test_schema_and_reader_take_the_same_upstreams(tmp_path: Path, kind: str) -> None:
    good = UPSTREAMS[kind]
    assert agree(tmp_path, {"upstream": [good]})
    names = SCHEMA["$defs"][UPSTREAM_KINDS[kind].__name__]["properties"]
    for name in [*names, "other"]:
        for value in [*OF_UPSTREAM.get(name, []), *ANYTHING]:
            agree(tmp_path, {"upstream": [{**good, name: value}]})
        agree(tmp_path, {"upstream": [{each: good[each] for each in good if each != name}]})


def test_schema_and_reader_know_the_same_names(tmp_path: Path) -> None:
    for value in ANYTHING:
        assert not agree(tmp_path, {"servers": value})
        assert not agree(tmp_path, {"server": {"binds": value}})
        agree(tmp_path, {"server": value})
        agree(tmp_path, {"upstream": value})
    assert not agree(
        tmp_path, {"upstream": [{**UPSTREAMS["spool"], "name": str(n)} for n in range(65)]}
    )
    assert agree(tmp_path, {})


def test_every_setting_is_in_the_schema() -> None:
    told = {
        f"{section}.{name}"
        for section, inner in SCHEMA["properties"].items()
        if "$ref" in inner
        for name in SCHEMA["$defs"][inner["$ref"].rpartition("/")[2]]["properties"]
    }

    assert told == set(SETTINGS)
