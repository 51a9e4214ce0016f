"""The files of deploy/, as tests read them: found by name, YAML decoded, settings loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from gateway.config import Config, load_config
from gateway.web.stopping import CLOSE_S_MAX, FINISH_S_MAX
from tests.system.processes import ROOT

DEPLOY = ROOT / "deploy"
FILES = "/srv/cmapi-gateway"  # where a command finds what it is given to read
END_S_MAX = FINISH_S_MAX + CLOSE_S_MAX + 1  # of a gateway, behind its drain


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def settings(path: Path, **environ: str) -> Config:
    """Read a gateway.toml as a gateway does. Raises InvalidInput."""
    return load_config(path, environ, {})


def seconds(span: str) -> int:
    """Read a span of whole seconds, as Compose and HAProxy write it."""
    assert span.endswith("s"), span
    return int(span[:-1])
