"""The OpenAPI document: the tables of operations and the types of bodies, laid out as 3.1 asks.

Decided here: the layout and what the document says of the whole. Not decided here: operations
(openapi_licensing.py, …_admin.py, …_reads.py, …_usage.py), bodies (…_wire.py and the types of the
reads), refusals (problem.py). The same tables always make the same document. Source: INTERFACE 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from msgspec.structs import replace

from gateway.protocols import (
    openapi_admin,
    openapi_licensespring,
    openapi_licensing,
    openapi_reads,
    openapi_usage,
)
from gateway.protocols.openapi_parts import (
    BASE,
    HEADERS,
    INSTANCE,
    SHORT,
    AnyOf,
    Content,
    Example,
    Given,
    Jws,
    Lines,
    Operation,
    Parameter,
    Refusal,
    Security,
    internal_error,
    refusal_of,
    refused_content,
)
from gateway.protocols.openapi_types import Types

_TABLE: Final = (
    *openapi_licensing.OPERATIONS,
    *openapi_admin.ADMINISTRATION,
    *openapi_reads.OPERATIONS,
    *openapi_usage.OPERATIONS,
    *openapi_licensespring.OPERATIONS,
    *openapi_admin.OPERATING,
)
_TAGS: Final = {
    openapi_licensing.TAG: "Access requests. The credential is a capability token, or the body"
    " itself as a JWS (`application/jose`), which then needs no `Authorization`; an instance may"
    " demand the latter.",
    openapi_admin.TAG: "For administrators, with a token of `authorize`. No role implies another.",
    openapi_reads.TAG: "What administrators read of an instance, and change. Reads have a short"
    " form for the default instance, as local licence servers had it.",
    openapi_usage.TAG: "What was used, denied and held, by local days of the instance's time zone,"
    " from what was recorded with the counts; and which lines are near capacity. With a short form,"
    " as other reads.",
    openapi_licensespring.TAG: "For LicenseSpring floating clients, of version 1 (`/api/v4`) and 2"
    " (`/api/v5`), on the lines of the one instance that the configuration names; without one these"
    " paths are not there. A token is needed where the configuration demands log-ins.",
    openapi_admin.OPERATIONS_TAG: "For balancers, and for who checks signed answers. Anonymous.",
}
_SCHEMES: Final = {
    Security.CAPABILITY: "A JWT that the client signs itself (RS256) with the key whose public"
    " half the instance trusts; claim `roles` with `ROLE_CAPABILITY`, and `exp`.",
    Security.SESSION: "The token that `authorize` gave.",
    Security.FLOATING_ALWAYS: "The token that a LicenseSpring log-in gave.",
    Security.BASIC: "Name and password of an administrator of the instance.",
}
_SUMMARY: Final = "Metered-licence gateway: exact counters at once, usage forwarded once"


def operations() -> tuple[Operation, ...]:
    """Give every operation that is served, those with a short form once for each of their paths."""
    return tuple(form for operation in _TABLE for form in _forms(operation))


def document(version: str) -> dict[str, Any]:
    """Make the document; `version` is the distribution's. Plain dictionaries and lists. Pure."""
    table = operations()
    types = Types(table)
    paths: dict[str, dict[str, Any]] = {}
    for operation in table:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(
            operation, types
        )
    refusals = {each.name: each for operation in table for each in _refusals(operation)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "cmapi-gateway",
            "summary": _SUMMARY,
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": said} for name, said in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": types.components,
            "parameters": {INSTANCE.name: _parameter(INSTANCE, types)},
            "headers": {
                name: {"description": said, "schema": types.schema(type_)}
                for name, (said, type_) in HEADERS.items()
            },
            "responses": {name: _refused((refusals[name],), types) for name in sorted(refusals)},
            "securitySchemes": {
                scheme.value: _scheme(scheme, said) for scheme, said in _SCHEMES.items()
            },
        },
    }


def _scheme(scheme: Security, said: str) -> dict[str, Any]:
    if scheme is Security.BASIC:
        return {"type": "http", "scheme": "basic", "description": said}
    return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": said}


def _forms(operation: Operation) -> Iterator[Operation]:
    yield operation
    if operation.short:
        yield replace(
            operation,
            id=f"{operation.id}OfDefault",
            path=SHORT + operation.path.removeprefix(BASE),
            summary=f"{operation.summary} (default instance)",
            parameters=tuple(each for each in operation.parameters if each.name != INSTANCE.name),
        )


def _operation(operation: Operation, types: Types) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
    }
    if operation.description:
        made["description"] = operation.description
    made["security"] = operation.requirements
    if operation.parameters:
        made["parameters"] = [_parameter_here(each, types) for each in operation.parameters]
    if operation.content:
        made["requestBody"] = {
            "required": operation.content_required,
            "content": _content(operation.content, types),
        }
    made["responses"] = _responses(operation, types)
    return made


def _parameter_here(parameter: Parameter, types: Types) -> dict[str, Any]:
    if parameter is INSTANCE:
        return {"$ref": f"#/components/parameters/{INSTANCE.name}"}
    return _parameter(parameter, types)


def _parameter(parameter: Parameter, types: Types) -> dict[str, Any]:
    made = {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.where == "path",
        "description": parameter.description,
        "schema": types.schema(parameter.type),
    }
    return made if parameter.example is None else made | {"example": parameter.example}


def _responses(operation: Operation, types: Types) -> dict[str, Any]:
    made = {str(each.status): _given(each, types) for each in operation.given}
    by_status: dict[int, list[Refusal]] = {}
    for refusal in _refusals(operation):
        by_status.setdefault(refusal.status, []).append(refusal)
    for status, refusals in by_status.items():
        if len(refusals) == 1:
            made[str(status)] = {"$ref": f"#/components/responses/{refusals[0].name}"}
        else:
            made[str(status)] = _refused(tuple(refusals), types)
    return dict(sorted(made.items()))


def _refusals(operation: Operation) -> list[Refusal]:
    path = operation.path
    return [*(refusal_of(each, path) for each in operation.refusals), internal_error(path)]


def _refused(refusals: tuple[Refusal, ...], types: Types) -> dict[str, Any]:
    said = " Or: ".join(each.description for each in refusals)
    return _given(Given(said, (refused_content(*refusals),), headers=refusals[0].headers), types)


def _given(given: Given, types: Types) -> dict[str, Any]:
    made: dict[str, Any] = {"description": given.description}
    if given.headers:
        made["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in given.headers}
    if given.content:
        made["content"] = _content(given.content, types)
    return made


def _content(contents: tuple[Content, ...], types: Types) -> dict[str, Any]:
    made = {}
    for content in contents:
        inner: dict[str, Any] = {}
        if content.type is not None:
            inner["schema"] = _schema(content, types)
        if content.examples:
            inner["examples"] = {each.name: _example(each) for each in content.examples}
        made[content.media_type] = inner
    return made


def _schema(content: Content, types: Types) -> dict[str, Any]:
    match content.type:
        case Jws(typ, payload):
            return {
                "type": "string",
                "description": "JWS, compact. Its protected header has `alg`, `kid` and `typ`,"
                f" which is `{typ}`; `contentSchema` is of its payload.",
                "pattern": "^[A-Za-z0-9_-]+[.][A-Za-z0-9_-]+[.][A-Za-z0-9_-]+$",
                "contentMediaType": content.media_type,
                "contentSchema": types.schema(payload),
            }
        case Lines(kinds):
            return {
                "type": "string",
                "contentMediaType": content.media_type,
                "contentSchema": {"type": "array", "items": _any_of(kinds, types)},
            }
        case AnyOf(kinds):
            return _any_of(kinds, types)
        case plain:
            return types.schema(plain)


def _any_of(kinds: tuple[Any, ...], types: Types) -> dict[str, Any]:
    schemas = [types.schema(kind) for kind in kinds]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _example(example: Example) -> dict[str, Any]:
    made = {"summary": example.summary}
    if example.query:
        made["description"] = f"Asked for with `?{example.query}`."
    return {**made, "value": example.value}
