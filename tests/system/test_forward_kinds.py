"""One instance attached to several upstreams at once, by the commands that a person has."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.faults.works import Upstream
from tests.system.test_forward import LINES, House

pytestmark = pytest.mark.slow  # some twenty commands, each a process

ATTACHED = "".join(f'  [[instance.upstream]]\n  name = "{name}"\n' for name in ("meter", "usb"))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    opened = House(tmp_path)
    yield opened
    opened.processes.close()


def books(house: House, *words: str) -> dict[str, Any]:
    """Give the books of the one line, by upstream."""
    told = msgspec.json.decode(
        house.run("verify", "CHILD", "--format", "json", "--deep", *words, at="CHILD")
    )
    assert told["conservation"] == "OK"
    return {entry["upstream"]: entry for entry in told["instances"][0]["lines"]}


def test_events_and_files_go_their_own_ways_and_a_receipt_settles(
    house: House, tmp_path: Path
) -> None:
    house.provision("CHILD", ATTACHED)
    with Upstream(tmp_path / "meter") as meter:
        house.config.write_text(
            f'[[upstream]]\nname = "meter"\nkind = "cloudevents"\nurl = "{meter.events_url}"\n'
            'dedupe_horizon = "24h"\n[[upstream]]\nname = "usb"\nkind = "spool"\ndir = "spool"\n'
        )
        child = house.child("--no-forward")
        house.post(child, 40)
        assert "nothing is left" in house.forward(code=0)
        house.post(child, 2)
        assert "nothing is left" in house.forward(code=0)
        assert sum(meter.totals().values()) == 42
    with_config = ("--config", str(house.config))
    sums = books(house, *with_config)
    assert sums["meter"]["forwarded"] == 42
    assert [sums["usb"][word] for word in ("parked", "forwarded", "reported")] == [42, 0, 42]

    files = sorted((tmp_path / "spool").glob("*.ndjson"))
    assert [file.name[:9] for file in files] == ["00000001-", "00000002-"]
    trailers = [file.read_bytes().splitlines(keepends=True)[-1] for file in files]
    for file, line in zip(files, trailers, strict=True):
        trailer = msgspec.json.decode(line)
        events = file.read_bytes().removesuffix(line)
        assert trailer["sha256"] == hashlib.sha256(events).hexdigest()
    receipt = tmp_path / "receipt.ndjson"
    receipt.write_bytes(trailers[0])
    house.run("forward", *with_config, "--receipt", str(receipt), at="CHILD")
    assert [books(house)["usb"][word] for word in ("parked", "forwarded")] == [2, 40]
    house.run("forward", *with_config, "--receipt", str(receipt), at="CHILD")  # once is enough
    assert [books(house)["usb"][word] for word in ("parked", "forwarded")] == [2, 40]

    # Detaching what still has something waits for a word of a person, and is on record.
    file = tmp_path / "CHILD.toml"
    file.write_text(f'[[instance]]\nid = "CHILD"\n{LINES}')
    assert "usb" in house.run("apply", str(file), at="CHILD", code=2)
    assert books(house).keys() == {"meter", "usb"}
    house.run("apply", str(file), "--discard", "usb", at="CHILD")
    assert books(house).keys() == {None}
    record = msgspec.json.decode(
        house.run("forward", "list", "--decisions", "--format", "json", at="CHILD")
    )["decisions"]
    assert [(each["what"], each["units"]) for each in record] == [
        ("discard", {"L1": 2}),
        ("receipt", {"L1": 40}),
    ]
    house.provision("CHILD", ATTACHED)  # attached again, it begins anew
    assert [books(house)["usb"][word] for word in ("acked", "forwarded", "dead")] == [42, 40, 2]
