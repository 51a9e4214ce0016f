"""The forms of a page as a browser without scripts sends them: what stands in a field is sent.

Decided here: which members a form has, by the rules of HTML. Not decided here: what is sent instead
of them. Source: HTML (constructing the entry list).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

Attributes = list[tuple[str, str | None]]


@dataclass
class Sheet:
    """A form: where it is sent, how, and its members in order. `labels` are of its buttons."""

    action: str
    method: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)

    def text(self, name: str) -> str:
        """Give the last member of a name; empty when there is none."""
        return dict(self.fields).get(name, "")


def forms_of(page: str) -> list[Sheet]:
    """Read all forms of a page."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return reader.found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Sheet] = []
        self._form: Sheet | None = None
        self._select = ""
        self._into: tuple[str, list[str]] | None = None  # a tag whose text is collected

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        said = {name: "" if value is None else value for name, value in attrs}
        if tag == "form":
            self._form = Sheet(said.get("action", ""), said.get("method", "get").lower())
            self.found.append(self._form)
        if self._form is None or "disabled" in said:
            return
        if tag == "input":
            self._put(said)
        elif tag == "select":
            self._select = said.get("name", "")
        elif tag == "option" and self._select:
            self._option(said)
        elif tag in ("textarea", "button"):
            self._into = (said.get("name", ""), [])

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "select":
            self._select = ""
        elif tag in ("textarea", "button") and self._into and self._form:
            name, parts = self._into
            if tag == "button":
                self._form.labels.append(" ".join("".join(parts).split()))
            else:
                self._form.fields.append((name, "".join(parts).removeprefix("\n")))
            self._into = None

    def handle_data(self, data: str) -> None:
        if self._into is not None:
            self._into[1].append(data)

    def _put(self, said: dict[str, str]) -> None:
        kind, name = said.get("type", "text"), said.get("name", "")
        if not name or kind in ("submit", "button", "image", "reset", "file"):
            return
        if kind in ("checkbox", "radio"):
            if "checked" in said and self._form:
                self._form.fields.append((name, said.get("value", "on")))
        elif self._form:
            self._form.fields.append((name, said.get("value", "")))

    def _option(self, said: dict[str, str]) -> None:
        """The first option is chosen, unless another one is."""
        assert self._form is not None
        first = self._select not in dict(self._form.fields)
        if first or "selected" in said:
            fields = [each for each in self._form.fields if each[0] != self._select]
            self._form.fields = [*fields, (self._select, said.get("value", ""))]
