"""What `doctor` asks of the upstreams: their files, and whether somebody is where they should be.

Decided here: that a connection, over TLS where the address says so, is all that is tried: nothing
is posted, so nothing is counted. Not decided here: what an upstream answers, which `forward list`
and the log tell. Source: INTERFACE 1.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from gateway.config import Config
from gateway.core.errors import InvalidInput
from gateway.core.keys import load_private
from gateway.settings import (
    CloudeventsUpstream,
    CmapiUpstream,
    LicensespringUpstream,
    SpoolUpstream,
    Upstream,
)
from gateway.store.findings import Finding, Verdict
from gateway.upstream.licensespring_calls import read_secret_file, read_verify_key
from gateway.upstream.sender import read_token_file

CONNECT_S_MAX: Final = 5.0
_PORTS: Final = {"http": 80, "https": 443}


async def check_upstreams(config: Config) -> list[Finding]:
    """Look at each configured upstream; all at once."""
    if not config.upstreams:
        told = "none is configured: usage stays in the store"
        return [Finding("upstreams", Verdict.OK, told)]
    found = await asyncio.gather(*(_check(config, each) for each in config.upstreams))
    return [finding for findings in found for finding in findings]


async def _check(config: Config, upstream: Upstream) -> list[Finding]:
    if isinstance(upstream, SpoolUpstream):
        return [_check_spool(upstream.name, config.path(upstream.dir))]
    findings = [await _check_way(upstream.name, upstream.url)]
    if isinstance(upstream, CmapiUpstream):
        findings.append(_check_key(upstream.name, config.path(upstream.key_file)))
    elif isinstance(upstream, LicensespringUpstream):
        findings += _check_cloud(config, upstream)
    elif isinstance(upstream, CloudeventsUpstream) and upstream.token_file:
        findings.append(_check_token(upstream.name, config.path(upstream.token_file)))
    return findings


async def _check_way(name: str, url: str) -> Finding:
    parts = urlsplit(url)
    port = parts.port or _PORTS[parts.scheme]
    # Trusted is what the forwarder trusts: it looks at no variable of the environment.
    tls = httpx.create_ssl_context(trust_env=False) if parts.scheme == "https" else None
    place = f"{parts.hostname}:{port}"
    try:
        async with asyncio.timeout(CONNECT_S_MAX):
            _, writer = await asyncio.open_connection(parts.hostname, port, ssl=tls)
    except (OSError, ValueError) as error:  # and the time-out; ValueError: no name of a host
        why = " ".join(str(error).split())[:200] or f"no answer within {CONNECT_S_MAX:.0f} s"
        told, mend = f"{place} is not reached: {why}", "mend its url, or the way there"
        return Finding("upstream", Verdict.FAIL, told, mend, where=name)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    over = "over TLS" if tls else "without TLS"
    return Finding("upstream", Verdict.OK, f"{place} takes connections, {over}", where=name)


def _check_key(name: str, path: Path) -> Finding:
    try:
        load_private(path.read_bytes())
    except OSError as error:
        told = f"the key {path} cannot be read: {error.strerror}"
    except InvalidInput as error:
        told = f"the key {path}: {'; '.join(error.problems)}"
    else:
        return Finding("upstream key", Verdict.OK, f"{path} is a key", where=name)
    return Finding("upstream key", Verdict.FAIL, told, "mend its key_file", where=name)


def _check_token(name: str, path: Path) -> Finding:
    try:
        read_token_file(path)
    except InvalidInput as error:
        told, mend = "; ".join(error.problems), "put one token into its token_file"
        return Finding("upstream token", Verdict.FAIL, told, mend, where=name)
    return Finding("upstream token", Verdict.OK, f"{path} has a token", where=name)


def _check_cloud(config: Config, upstream: LicensespringUpstream) -> list[Finding]:
    """Look at the files of a cloud; nothing is asked there, since each call counts against it."""
    name = upstream.name
    files = {"api_key_file": upstream.api_key_file, "shared_key_file": upstream.shared_key_file}
    findings = []
    for setting, file in files.items():
        path = config.path(file)
        try:
            read_secret_file(path)
        except InvalidInput as error:
            told, mend = "; ".join(error.problems), f"put one key into its {setting}"
            findings.append(Finding("upstream key", Verdict.FAIL, told, mend, where=name))
        else:
            findings.append(Finding("upstream key", Verdict.OK, f"{path} has a key", where=name))
    if not upstream.verify_key_file:
        return findings
    path = config.path(upstream.verify_key_file)
    try:
        read_verify_key(path)
    except InvalidInput as error:
        told, mend = "; ".join(error.problems), "mend its verify_key_file"
        findings.append(Finding("upstream key", Verdict.FAIL, told, mend, where=name))
    else:
        findings.append(Finding("upstream key", Verdict.OK, f"{path} is a key", where=name))
    return findings


def _check_spool(name: str, directory: Path) -> Finding:
    if directory.is_dir():
        if os.access(directory, os.R_OK | os.W_OK | os.X_OK):
            return Finding("spool", Verdict.OK, f"{directory} can be written to", where=name)
        told = f"{directory} cannot be written to"
    elif directory.exists():
        told = f"{directory} is not a directory"
    elif os.access(directory.parent, os.W_OK | os.X_OK):
        return Finding("spool", Verdict.OK, f"{directory} is made with the first batch", where=name)
    else:
        told = f"{directory} is not there and cannot be made"
    mend = "mount it, or let the gateway's account write there"
    return Finding("spool", Verdict.FAIL, told, mend, where=name)
