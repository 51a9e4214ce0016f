"""The story of why: a request that was answered before, told with the counters of that moment.

Decided here: what can be asked about, and what is said when nothing is kept. Not decided here: who
may ask (admin.py). Source: INTERFACE 1 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.core.errors import NotFound
from gateway.core.fingerprint import visible_ascii
from gateway.core.model import Catalogue
from gateway.protocols.cmapi_explain import Explained, explained
from gateway.store.catalogues import Catalogues
from gateway.store.explained import read_why

SHOWN_MAX: Final = 64  # characters of an id that are repeated


@dataclass(frozen=True, slots=True)
class Explain:
    """Tells why requests came to what they came to."""

    catalogues: Catalogues

    async def explain(self, catalogue: Catalogue, request_id: str) -> Explained:
        """Tell of the request that was sent under an id. Raises NotFound; Unavailable."""
        why = None
        if visible_ascii(request_id):
            keys = self.catalogues.keys(catalogue.id)
            why = await read_why(self.catalogues.client, keys, request_id)
        if why is None:
            shown = request_id[:SHOWN_MAX]
            raise NotFound(
                "Nothing is kept of this request: it is unknown, longer ago than explain.retention,"
                " or explain.retention was 0 when it came",
                shown,
            )
        return explained(request_id, why, {line.id: line.feature for line in catalogue.lines})
