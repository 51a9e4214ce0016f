"""What goes wrong upstream, and when: a plan, and the fault that it has for the n-th request. Pure.

Decided here: the faults by name, and the order in which a plan uses them. Not decided here: how a
fault looks on a socket (upstream.py). A fault comes from the plan, its seed and the number of the
request alone, so that a run can be replayed and a killed upstream goes on where it was.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum

NOT_APPLIED = b'{"key":"gateway.unavailable","message":"","arguments":["not_applied"]}'
UNKNOWN = b'{"key":"gateway.unavailable","message":"","arguments":["unknown"]}'
GARBAGE = b"<html><title>Please log in</title>"
CUT_SHORT = b'{"features":[{"name":"sess'
HUGE = b'{"statusList":[],"features":["' + b"x" * 2**21 + b'"]}'


class How(StrEnum):
    """What happens on the connection once the request was read."""

    ANSWER = "answer"
    LATE = "late"  # the answer comes after `late_s`
    DRIP = "drip"  # the answer comes byte by byte, `drip_s` apart
    HALF = "half"  # the answer breaks off in its middle
    HANG = "hang"  # no answer, and the connection stays
    CLOSE = "close"
    RESET = "reset"


@dataclass(frozen=True)
class Fault:
    """A fault. `applies`: the request is judged and counted all the same, before it happens.

    `status` 0 stands for the answer there would be without a fault; where the request is not
    applied, for a 503 that says so, because an upstream may fail but does not lie.
    """

    applies: bool
    how: How = How.ANSWER
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    waits: bool = False  # Retry-After is sent


def _both(name: str, status: int = 0, body: bytes = b"", how: How = How.ANSWER) -> dict[str, Fault]:
    return {
        name: Fault(False, how, status, body=body),
        f"{name} applied": Fault(True, how, status, body=body),
    }


FAULTS: dict[str, Fault] = {
    "": Fault(True),
    **_both("500", 500),
    **_both("502", 502, GARBAGE),
    **_both("503", 503, UNKNOWN),
    **_both("garbage", 200, GARBAGE),
    **_both("huge", 200, HUGE),
    **_both("hang", how=How.HANG),
    **_both("close", how=How.CLOSE),
    **_both("reset", how=How.RESET),
    **_both("half", how=How.HALF),
    **_both("drip", how=How.DRIP),
    # The first answer cannot be read; the same id then gets another body, as every repeat does.
    "two bodies": Fault(True, status=200, body=CUT_SHORT),
    "late": Fault(True, How.LATE),
    "503 not_applied": Fault(False, status=503, body=NOT_APPLIED, waits=True),
    "429": Fault(False, status=429, waits=True),
    "400": Fault(False, status=400),
    "401": Fault(False, status=401),
    "403": Fault(False, status=403),
    "302": Fault(False, status=302, headers={"Location": "/elsewhere"}),
    "413": Fault(False, status=413),
    "422": Fault(False, status=422),
}

INVALID = ("400", "413", "422")  # the batch is split, down to a row or feature that is dead
STOPPING = ("401", "403", "302")  # the lane stands until it is probed: 5 min, or a restart
# After these the lane goes on by itself: nothing is parked or dead while the id is remembered.
PASSING: dict[str, int] = {
    "": 50,
    **{name: 2 for name in FAULTS if name not in ("", *INVALID, *STOPPING)},
    "hang": 1,  # each costs the sender its whole time-out
    "hang applied": 1,
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the upstream does with requests, counted from when it first reads this `serial`.

    First `script`, a fault by name for each request; then for `mix_requests` (None: for ever) one
    drawn from `mix`, weights by name; then none. Beside it, at any time: `poison`, features or
    lines with which a request is a 422; `capacity` by feature, beyond which it is refused by name;
    `takes_back` False, negative counts are refused; `bytes_max`, bodies over it are a 413.
    """

    serial: int = 0
    seed: int = 0
    script: Sequence[str] = ()
    mix: Mapping[str, int] = field(default_factory=dict)
    mix_requests: int | None = None
    poison: Sequence[str] = ()
    capacity: Mapping[str, int] = field(default_factory=dict)
    takes_back: bool = True
    bytes_max: int = 8 * 1024 * 1024
    retry_after_s: int = 1
    late_s: float = 0.5
    drip_s: float = 0.02

    def __post_init__(self) -> None:
        unknown = {*self.script, *self.mix} - FAULTS.keys()
        if unknown:
            raise ValueError(f"no such fault: {sorted(unknown)}; there are {sorted(FAULTS)}")


def encode_plan(plan: Plan) -> bytes:
    """Write a plan as its file's JSON object, members as named in Plan."""
    return json.dumps(asdict(plan), indent=1).encode()


def decode_plan(text: bytes) -> Plan:
    """Read a plan; raises TypeError or ValueError for what is none."""
    return Plan(**json.loads(text))


def fault_at(plan: Plan, number: int) -> str:
    """Name the fault for a request by its number from 0; "" is none."""
    if number < len(plan.script):
        return plan.script[number]
    drawn = number - len(plan.script)
    if not plan.mix or (plan.mix_requests is not None and drawn >= plan.mix_requests):
        return ""
    dice = random.Random(f"{plan.seed}/{number}")  # noqa: S311 (a plan is to be repeatable)
    return dice.choices(list(plan.mix), list(plan.mix.values()))[0]
