"""The schemas of the OpenAPI document: made of all types that the tables of operations name.

Decided here: that they are made together, so that what is the same has one component, and that
descriptions are on one line. Not decided here: the types themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from gateway.protocols.openapi_parts import (
    HEADERS,
    AnyOf,
    Jws,
    Lines,
    Operation,
    internal_error,
    refused_content,
)

REF: Final = "#/components/schemas/{name}"


class Types:
    """The schemas of all types that a table names, made at once so that they share components."""

    def __init__(self, table: Iterable[Operation]) -> None:
        named = [type_ for _, type_ in HEADERS.values()]
        for operation in table:
            named += [each.type for each in operation.parameters]
            given = [content for each in operation.given for content in each.content]
            refused = refused_content(internal_error(operation.path))
            for content in (*operation.content, *given, refused):
                named += _types_of(content.type)
        types = list(dict.fromkeys(named))
        schemas, components = msgspec.json.schema_components(types, ref_template=REF)
        self._schemas = dict(zip(types, in_one_line(list(schemas)), strict=True))
        self.components: dict[str, Any] = in_one_line(dict(sorted(components.items())))

    def schema(self, type_: Any) -> dict[str, Any]:
        """Give the schema of a type of the table."""
        schema: dict[str, Any] = self._schemas[type_]
        return schema


def _types_of(body: Any) -> tuple[Any, ...]:
    match body:
        case None:
            return ()
        case Jws(_, payload):
            return (payload,)
        case Lines(types) | AnyOf(types):
            return types
        case _:
            return (body,)


def in_one_line(schema: Any) -> Any:
    """Give a schema with each description on one line: some are docstrings, wrapped by our width.

    Pure.
    """
    if isinstance(schema, Mapping):
        return {
            name: " ".join(value.split())
            if name == "description" and isinstance(value, str)
            else in_one_line(value)
            for name, value in schema.items()
        }
    return [in_one_line(each) for each in schema] if isinstance(schema, list) else schema
