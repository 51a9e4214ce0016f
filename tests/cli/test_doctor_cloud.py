"""What `doctor` says of a LicenseSpring cloud: its files, without a call to it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.cli.doctoring.upstreams import check_upstreams
from gateway.config import load_config
from gateway.core.keys import generate, public_pem
from gateway.store.findings import Finding, Verdict

CONFIG = """
[[upstream]]
name = "cloud"
kind = "licensespring"
url = "http://127.0.0.1:{port}"
api_key_file = "api"
shared_key_file = "shared"
hardware_id = "gateway-1"
verify_key_file = "verify.pem"
"""


def found(directory: Path) -> list[Finding]:
    async def look() -> list[Finding]:
        met: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            met.append(await reader.read())
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            file = directory / "gateway.toml"
            file.write_text(CONFIG.format(port=port))
            told = await check_upstreams(load_config(file, {}, {}))
        assert b"".join(met) == b""
        return told

    return asyncio.run(look())


def test_files_that_hold_what_they_should_are_well(tmp_path: Path) -> None:
    (tmp_path / "api").write_text("the-key\n")
    (tmp_path / "shared").write_text("the-secret\n")
    (tmp_path / "verify.pem").write_bytes(public_pem(generate("RS256").public_key()))
    told = found(tmp_path)
    assert {each.verdict for each in told} == {Verdict.OK}
    assert len(told) == 4
    assert "the-secret" not in repr(told)


def test_each_file_that_does_not_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "shared").write_text("two words\n")
    (tmp_path / "verify.pem").write_bytes(public_pem(generate("ES256").public_key()))
    way, *files = found(tmp_path)
    assert way.verdict is Verdict.OK
    assert [each.verdict for each in files] == [Verdict.FAIL] * 3
    for setting, each in zip(("api_key_file", "shared_key_file", "verify"), files, strict=True):
        assert setting in repr(each)
        assert "two words" not in repr(each)
