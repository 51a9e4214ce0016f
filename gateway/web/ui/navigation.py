"""The pages of an instance, in the order in which they are offered."""

from __future__ import annotations

from typing import Final, NamedTuple


class Entry(NamedTuple):
    """A page that is offered on every page; `path` is below the instance's."""

    path: str
    title: str


NAVIGATION: Final = (
    Entry("", "Overview"),
    Entry("licences", "Licences"),
    Entry("registrations", "Registrations"),
    Entry("consumption", "Consumption list"),
    Entry("reports", "Reports"),
    Entry("forwarding", "Forwarding"),
    Entry("configuration", "Configuration"),
)
