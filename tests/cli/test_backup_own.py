"""What of the gateway's own a backup carries, and what a restore puts by for it."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from gateway.core.keys import generate, private_pem
from gateway.store.chain import CHAIN_FILE, KEY_FILE, load_chain, make_chain
from gateway.store.own import FILES
from tests.cli.test_backup import FORCED, told, use, verified

pytestmark = pytest.mark.slow  # each a few commands over stores of its own


def own_files(data_dir: Path, *, chain: bool = True) -> dict[str, bytes]:
    """Make what a gateway makes for itself at its first start; gives it."""
    (data_dir / "signing.pem").write_bytes(private_pem(generate("ES256")))
    if chain:
        made_chain(data_dir)
    return read(data_dir)


def made_chain(data_dir: Path) -> None:
    key = generate("RS256")
    assert isinstance(key, RSAPrivateKey)
    (data_dir / KEY_FILE).write_bytes(private_pem(key))
    (data_dir / CHAIN_FILE).write_bytes(make_chain(key, datetime.datetime.now(datetime.UTC)))


def read(data_dir: Path) -> dict[str, bytes]:
    paths = [data_dir / name for name in FILES.values()]
    return {path.name: path.read_bytes() for path in paths if path.exists()}


def test_keys_of_the_data_dir_move_along(tmp_path: Path) -> None:
    here, there, out = tmp_path / "a", tmp_path / "b", tmp_path / "all.gwb"
    use(here, "k1")
    own = own_files(here)
    assert len(own) == 3
    told(here, "backup", "--out", str(out))
    assert b"PRIVATE" not in out.read_bytes()  # packed, so that nobody sees it in passing
    told(there, "restore", str(out))
    assert read(there) == own
    modes = {name: (there / name).stat().st_mode & 0o777 for name in own}
    assert modes == {"signing.pem": 0o600, KEY_FILE: 0o600, CHAIN_FILE: 0o644}
    load_chain(there / KEY_FILE, there / CHAIN_FILE)
    told(there, "restore", str(out))  # the same again: nothing is another's
    assert not list(there.glob("*.before-*"))


def test_those_of_a_gateway_that_is_in_use_are_put_by_and_only_by_force(tmp_path: Path) -> None:
    here, there, out = tmp_path / "a", tmp_path / "b", tmp_path / "all.gwb"
    use(here, "k1")
    own = own_files(here)
    told(here, "backup", "--out", str(out))
    told(there, "restore", str(out))
    before = own_files_anew(there)
    refused = told(there, "restore", str(out), code=1)
    for name in ("signing key", "LicenseSpring key", "LicenseSpring chain"):
        assert f"its own {name}, for that of the backup" in refused.stdout
    assert read(there) == before
    said = told(there, "restore", str(out), *FORCED).stdout
    assert read(there) == own
    kept = sorted(there.glob("*.before-restore-*"))
    assert {path.name.partition(".before-")[0]: path.read_bytes() for path in kept} == before
    assert all(str(path) in said for path in kept)
    assert verified(there)


def own_files_anew(data_dir: Path) -> dict[str, bytes]:
    for name in FILES.values():
        (data_dir / name).unlink()
    return own_files(data_dir)


def test_a_gateway_that_was_started_and_serves_nobody_needs_no_force(tmp_path: Path) -> None:
    here, there, out = tmp_path / "a", tmp_path / "b", tmp_path / "all.gwb"
    use(here, "k1")
    own = own_files(here, chain=False)
    told(here, "backup", "--out", str(out))
    there.mkdir()
    own_files(there, chain=False)
    told(there, "restore", str(out))
    assert read(there) == own
    assert len(list(there.glob("signing.pem.before-restore-*"))) == 1


def test_files_that_the_configuration_names_are_left_to_it(tmp_path: Path) -> None:
    here, there, out = tmp_path / "a", tmp_path / "b", tmp_path / "all.gwb"
    use(here, "k1")
    own_files(here)
    told(here, "backup", "--out", str(out))
    config = tmp_path / "gateway.toml"
    config.write_text('[signing]\nkey_file = "mine.pem"\n')
    said = told(there, "restore", str(out), "--config", str(config)).stdout
    assert "left out, for here the configuration names such files: signing key" in said
    assert sorted(read(there)) == [CHAIN_FILE, KEY_FILE]


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    here, out = tmp_path / "a", tmp_path / "all.gwb"
    use(here, "k1")
    (here / "signing.pem").mkdir()
    said = told(here, "backup", "--out", str(out), code=2).stderr
    assert "signing.pem, the signing key, cannot be read" in said
    assert not out.exists()
