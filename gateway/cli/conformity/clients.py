"""Finding a host of this run among the clients that a server lists, page after page."""

from __future__ import annotations

import re
from typing import Any, Final

from gateway.cli.conformity.checks import Differs, NotTried, hold
from gateway.cli.conformity.reading import read_reply
from gateway.cli.conformity.site import Site
from gateway.cli.conformity.wire import Reply

PAGES_MAX: Final = 20
# Visible ASCII but < and >, as URLs have it.
_NEXT: Final = re.compile(r'<(\?[!-;=?-~]{1,500})>\s*;\s*rel="?next"?')


def find_client(site: Site, path: str, host: str) -> dict[str, Any]:
    """Give the element of a list of clients that is, or whose `client` is, this host.

    Raises Differs when it is not listed, NotTried when there are too many pages to look through.
    """
    query = ""
    for _ in range(PAGES_MAX):
        reply = read_reply(site, path + query)
        elements = reply.json()
        hold(isinstance(elements, list), "an array", reply.words)
        for element in elements:
            client = element.get("client", element) if isinstance(element, dict) else {}
            if _value(client) == host:
                return dict(element)
        following = next_page(reply)
        if following is None:
            raise Differs(f"{host} in {path}", f"{len(elements)} others on the last page")
        query = following
    raise NotTried(f"{path} has over {PAGES_MAX} pages")


def next_page(reply: Reply) -> str | None:
    """Give the query of the page after this one, or None when none is named (RFC 8288)."""
    found = _NEXT.search(reply.headers.get("link", ""))
    return found[1] if found else None


def _value(client: Any) -> object:
    hostid = client.get("hostid") if isinstance(client, dict) else None
    return hostid.get("hostidValue") if isinstance(hostid, dict) else None
