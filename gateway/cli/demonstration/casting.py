"""Who is in the fleet: clients of the protocols that were asked for, in turn.

Decided here: who speaks what. Not decided here: what they say (cmapi.py, licensespring.py).
Source: INTERFACE 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial

from gateway.cli.demonstration.cmapi import AccessSpeaker
from gateway.cli.demonstration.fleet import Speaker
from gateway.cli.demonstration.licensespring import FloatingSpeaker, Verify, verifier
from gateway.cli.demonstration.scene import INSTANCE, Scene


class Spoken(StrEnum):
    """A protocol that clients can speak."""

    CMAPI = "cmapi"
    LICENSESPRING = "licensespring"


def cast(scene: Scene, spoken: Sequence[Spoken], seed: int, clients: int) -> list[Speaker]:
    """Give the clients: each protocol in turn, and of each its ways in turn.

    Raises OSError and InvalidInput for a chain file that is not there or none.
    """
    lines = {line.feature: line for line in scene.lines}
    seals = scene.seals

    def access(number: int) -> Speaker:
        seal = seals[number % len(seals)]
        return AccessSpeaker(number=number, seed=seed, instance=INSTANCE, seal=seal, lines=lines)

    def floating(verify: Verify, number: int) -> Speaker:
        version = 1 + number % 2
        return FloatingSpeaker(
            number=number, seed=seed, version=version, verify=verify, lines=lines
        )

    makers: list[Callable[[int], Speaker]] = [
        access
        if each is Spoken.CMAPI
        else partial(floating, verifier(scene.chain_file.read_bytes()))
        for each in spoken
    ]
    return [makers[place % len(makers)](place // len(makers)) for place in range(clients)]
