"""What a gateway process knows of its own life: whether it is on its way out.

Decided here: nothing; it is told by whoever stops the process (serving.py) and read by whoever
tells balancers (ops.py). Source: INTERFACE 1 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Lifecycle:
    """The state of this process; `draining` turns true once and never back."""

    draining: bool = False
