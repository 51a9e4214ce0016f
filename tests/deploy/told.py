"""What deploy/README.md tells people to type, as a shell reads it.

Decided here: how its helpers (gw, gw_off, put), its calls of them and its indented recipes are
found, and what a call comes to once bash has expanded its helper. Not decided here: whether the
command takes that (test_readme_of_deploy.py), and what comes of it (test_recipes.py).
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence

from tests.deploy.files import DEPLOY

README = (DEPLOY / "README.md").read_text(encoding="utf-8")
HELPERS = ("gw", "gw_off", "put")
INSTALLATIONS = ("compose", "kubernetes", "systemd")
_DEFINITION = re.compile(rf"^    ((?:{'|'.join(HELPERS)})\(\) .*)$", re.MULTILINE)
# What helpers call, here only to tell with what; and what comes before the words of our command.
_TOOLS = ("docker", "kubectl", "systemd-run")
_OURS = re.compile(r"(?:.*/bin/)?cmapi-gateway|gateway-0")


def helpers(installation: str) -> list[str]:
    """Give the definitions of an installation's helpers, in the order of HELPERS."""
    defined = _DEFINITION.findall(README)
    assert len(defined) == len(HELPERS) * len(INSTALLATIONS)
    begin = len(HELPERS) * INSTALLATIONS.index(installation)
    found: list[str] = defined[begin : begin + len(HELPERS)]
    assert [each.partition("(")[0] for each in found] == list(HELPERS)
    return found


def calls() -> list[str]:
    """Give every call of `gw` and `gw_off`, in running text and in recipes; choices one by one."""
    spans = re.findall(r"`(gw(?:_off)? [^`]+)`", README)
    lines = re.findall(r"^ {4,}(gw(?:_off)? .*)$", README, re.MULTILINE)
    ended = (re.split(r"\s(?:>|<|\||&&)\s", " ".join(each.split()))[0] for each in (*spans, *lines))
    return sorted({choice for call in ended for choice in _choices(call)})


def expanded(installation: str, told: Sequence[str]) -> list[list[str]]:
    """Give the words that our command gets, for each call, as bash hands them over."""
    tools = "\n".join(f"{tool}() {{ printf '%q ' \"$@\"; echo; }}" for tool in _TOOLS)
    script = "\n".join((tools, *helpers(installation), *told))
    ended = subprocess.run(
        ["bash", "-euc", script], capture_output=True, text=True, check=True, timeout=90
    )
    return [_ours(shlex.split(line)) for line in ended.stdout.splitlines()]


def recipe(beginning: str) -> list[str]:
    """Give the lines of the one indented block that begins so."""
    blocks = re.findall(r"(?:^ {4,}.*\n)+", README, re.MULTILINE)
    found = [block for block in blocks if block.lstrip().startswith(beginning)]
    assert len(found) == 1, (beginning, found)
    return [line.strip() for line in found[0].splitlines()]


def _choices(call: str) -> list[str]:
    found = re.search(r"(\S+?)\|(\S+)", call)
    if found is None:
        return [call]
    before, after = call[: found.start()], call[found.end() :]
    return [f"{before}{each}{after}" for each in found.groups()]


def _ours(words: list[str]) -> list[str]:
    last = max(place for place, word in enumerate(words) if _OURS.fullmatch(word))
    return words[last + 1 :]
