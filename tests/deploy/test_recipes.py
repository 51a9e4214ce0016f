"""The recipes of deploy/README.md do what they are for, typed as they stand there.

Those of an installation with systemd, over the store that the gateway brings along: its directories
are under the test's own, and `systemd-run` is the command that it would run. Not decided here: that
Docker and kubectl run commands (test_readme_of_deploy.py has what they would be told).
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.deploy.told import README, helpers, recipe
from tests.system.processes import COMMAND, clean_environ

pytestmark = pytest.mark.slow

INSTALLED = "/opt/cmapi-gateway/bin/cmapi-gateway"
PROVISIONING = """
[[instance]]
id = "{instance}"
[[instance.key]]
kid = "k1"
alg = "ES256"
public_file = "client.pem"
[[instance.line]]
id = "L1"
feature = "pages"
version = "1.0"
count = 100
model = "metered"
"""
INSTANCE = "SHOP"
STEP_S_MAX = 180


class Machine:
    """A machine on which the gateway was installed, with somebody at its shell."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.home = root / "home"
        self.home.mkdir()
        for place in ("etc/cmapi-gateway", "var/lib/cmapi-gateway", "srv"):
            (root / place).mkdir(parents=True)
        (root / "etc/cmapi-gateway/gateway.toml").write_text("[redis]\npartitions = 1\n")

    @property
    def data(self) -> Path:
        return self._root / "var/lib/cmapi-gateway"

    def type(self, *lines: str) -> str:
        """Type these after the helpers; give what was said. Fails where a line does."""
        told = "\n".join((*helpers("systemd"), *lines))
        told = re.sub(r"(/(?:etc|srv|var/lib)/cmapi-gateway)", rf"{self._root}\1", told)
        # There is no such user here; and systemd-run's own options end where the command begins.
        told = told.replace("-o cmapi-gateway ", "")
        begin = f'while [ "$1" != {INSTALLED} ]; do shift; done; shift'
        run = f'systemd-run() {{ {begin}; {" ".join(COMMAND)} "$@"; }}'
        ended = subprocess.run(
            ["bash", "-euc", f"{run}\n{told}"],
            cwd=self.home,
            env=clean_environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=STEP_S_MAX,
        )
        assert ended.returncode == 0, (lines, ended.stdout, ended.stderr)
        return ended.stdout


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def provision(machine: Machine) -> None:
    """Go the last steps of the installation."""
    generate = f"{' '.join(COMMAND)} keys generate --out k1 --alg ES256"
    machine.type(generate, "cp k1/public.pem client.pem")
    (machine.home / "provisioning.toml").write_text(PROVISIONING.format(instance=INSTANCE))
    machine.type(*recipe("put provisioning.toml"))


def test_a_backup_is_taken_looked_into_and_restored_into_an_empty_store(machine: Machine) -> None:
    provision(machine)
    machine.type(*recipe("umask 077"))
    backup = machine.home / "nightly.backup"
    assert backup.stat().st_mode & 0o777 == 0o600
    assert not (machine.home / "nightly.part").exists()
    assert INSTANCE in machine.type(*recipe("put nightly.backup\n    gw_off backup --list"))

    machine.data.rename(machine.data.with_name("lost"))
    machine.data.mkdir()
    machine.type(*recipe("put nightly.backup\n       gw_off restore"))
    machine.type(*recipe("gw_off restore"))
    assert "conservation: OK" in machine.type(span("gw_off verify --deep"))
    assert "k1" in machine.type(f"gw keys list {INSTANCE}")


def test_a_cold_move_brings_everything_to_another_store(machine: Machine) -> None:
    provision(machine)
    machine.type(span("gw_off forward --once"))
    machine.type(span("gw_off backup --out - > move.backup"))
    machine.data.rename(machine.data.with_name("old"))
    machine.data.mkdir()
    machine.type(span("put move.backup"))
    machine.type(span("gw_off restore /srv/cmapi-gateway/move.backup --outbox send"))
    assert "conservation: OK" in machine.type(span("gw_off verify --deep"))
    assert "k1" in machine.type(f"gw keys list {INSTANCE}")


def test_a_key_is_changed_and_both_are_there_meanwhile(machine: Machine) -> None:
    provision(machine)
    machine.type(f"{' '.join(COMMAND)} keys generate --out k2 --alg ES256", "cp k2/public.pem NEW")
    add = span("gw_off keys add INSTANCE --public /srv/cmapi-gateway/NEW --kid k2")
    machine.type(span("put NEW"), add.replace("INSTANCE", INSTANCE))
    both = machine.type(f"gw keys list {INSTANCE}")
    assert "k1" in both
    assert "k2" in both
    machine.type(span("gw keys revoke INSTANCE k1").replace("INSTANCE", INSTANCE))
    assert "k1" not in machine.type(f"gw keys list {INSTANCE}")


def span(call: str) -> str:
    """Give a call that stands so in the text."""
    assert f"`{call}`" in README, call
    return call
