"""The Dockerfile, read instruction by instruction, so that its steps can be done without Docker."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from string import Template


@dataclass
class Stage:
    """What stands from one FROM to the next: its instructions, in order."""

    image: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [text for name, text in self.steps if name == instruction]

    def last(self, instruction: str) -> str:
        return self.all(instruction)[-1]

    def words(self, instruction: str) -> list[str]:
        """Give the words of an instruction in its JSON form, which no shell reads."""
        words: list[str] = json.loads(re.sub(r"^.*?(?=\[)", "", self.last(instruction)))
        return words

    @property
    def environ(self) -> dict[str, str]:
        pairs = [word.split("=", 1) for text in self.all("ENV") for word in shlex.split(text)]
        return {name: text for name, text in pairs}


def read_stages(path: Path) -> list[Stage]:
    """Read a Dockerfile; ARGs before the first FROM are filled in."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in filter(str.strip, joined.splitlines()):
        name, _, text = line.strip().partition(" ")
        if name == "FROM":
            image, _, alias = text.partition(" AS ")
            stages.append(Stage(Template(image).substitute(arguments), alias))
        elif not stages:
            arguments |= dict([text.split("=", 1)])
        else:
            stages[-1].steps.append((name, text.strip()))
    return stages
