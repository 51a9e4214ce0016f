"""The public contract as files: what `schemas/` holds, byte for byte.

Decided here: which files there are, their names and layout, and what a schema of the configuration
says that its types cannot. Not decided here: bodies (protocols/…_wire.py and the types of reads),
operations (protocols/openapi.py), settings (settings.py). The same code always makes the same
bytes. Source: DESIGN 1, INTERFACE 1 to 3.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, get_type_hints

import msgspec
import yaml
from msgspec.structs import fields

from gateway.config import UPSTREAMS_MAX, Config
from gateway.core.provisioning_file import ProvisioningFile
from gateway.protocols import answer_wire, batch_wire, cmapi_wire, house_wire, openapi_plant
from gateway.protocols.cmapi_clients import Client, Dropped
from gateway.protocols.cmapi_explain import Explained
from gateway.protocols.cmapi_features import Feature, FeatureClient, Summaries
from gateway.protocols.cmapi_server import Health, InstanceInfo, Policies, PolicyChange
from gateway.protocols.openapi import document, operations
from gateway.protocols.openapi_licensespring import BODIES as FLOATING_BODIES
from gateway.protocols.openapi_types import in_one_line
from gateway.protocols.openapi_usage_wire import DenialReport, PeakReport, UsageReport
from gateway.protocols.usage_report import Capacity
from gateway.settings import UPSTREAM_KINDS, Section, Upstream

OPENAPI: Final = "openapi.yaml"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

# File -> the type whose JSON Schema it is; several types are alternatives.
BODIES: Final[Mapping[str, tuple[Any, ...]]] = {
    "access-request": (cmapi_wire.AccessRequest,),
    "access-answer": (answer_wire.AccessAnswer,),
    "preview-request": (cmapi_wire.PreviewRequest,),
    "preview-answer": (answer_wire.PreviewAnswer,),
    "signed-access-request": (cmapi_wire.SignedAccessRequest,),
    "signed-access-answer": (answer_wire.SignedAccessAnswer,),
    "signed-preview-request": (cmapi_wire.SignedPreviewRequest,),
    "batch-line": (batch_wire.BatchLine,),
    "batch-answer-line": (batch_wire.BatchServed, batch_wire.BatchRefused),
    "signed-batch": (batch_wire.SignedBatch,),
    "error": (house_wire.Error,),
    "login": (house_wire.Login,),
    "session": (house_wire.Session,),
    "licensing-key": (house_wire.LicensingKey,),
    "public-keys": (house_wire.PublicKeys,),
    "readiness": (house_wire.Readiness,),
    "health": (Health,),
    "instance": (InstanceInfo,),
    "feature": (Feature,),
    "features": (list[Feature],),
    "feature-clients": (list[FeatureClient],),
    "feature-summaries": (Summaries,),
    "client": (Client,),
    "clients": (list[Client],),
    "dropped-client": (Dropped,),
    "explained-request": (Explained,),
    "policies": (Policies,),
    "policy-change": (PolicyChange,),
    "usage-report": (UsageReport,),
    "denial-report": (DenialReport,),
    "peak-report": (PeakReport,),
    "capacity": (Capacity,),
    "provisioning": (ProvisioningFile,),
    **{f"licensespring-{name}": (type_,) for name, type_ in FLOATING_BODIES.items()},
}

# gateway.toml as a type: the sections of Config, and its upstreams by the name the file gives them.
ConfigurationFile: Final = msgspec.defstruct(
    "ConfigurationFile",
    [
        *(
            (each.name, each.type, each.default)
            for each in fields(Config)
            if isinstance(each.default, Section)
        ),
        ("upstream", list[Upstream], []),
    ],
    namespace={
        "__doc__": "gateway.toml. What the environment says in `GATEWAY_SECTION__KEY` goes before"
        " it. Secrets are in files that it names, or in `redis.url`."
    },
)

_SPAN: Final = "^[0-9]+[smhdw]?$"
_SPAN_NOT_ZERO: Final = "^0*[1-9][0-9]*[smhdw]?$"


def files(version: str) -> dict[str, bytes]:
    """Give all files by name; `version` is the distribution's."""
    made = {OPENAPI: _yaml(document(version))}
    examples = _examples() | {"provisioning": [openapi_plant.PROVISIONING]}
    for name, types in BODIES.items():
        made[f"{name}.schema.json"] = _file(name, _schema(types), examples.get(name, []))
    made["configuration.schema.json"] = _file("configuration", _configuration(), [])
    return made


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Writes for people: what is used twice is there twice, and lines of text are lines."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> Any:
        style = "|" if "\n" in text else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


def _yaml(value: dict[str, Any]) -> bytes:
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text.encode()


def _file(name: str, schema: dict[str, Any], examples: list[Any]) -> bytes:
    head = {"$schema": DIALECT, "$id": f"urn:cmapi-gateway:schema:{name}"}
    inner = schema.pop("$defs", None)
    whole = head | schema
    if examples:
        whole["examples"] = examples
    if inner:
        whole["$defs"] = inner
    return (json.dumps(whole, indent=2, ensure_ascii=False) + "\n").encode()


def _schema(types: tuple[Any, ...]) -> dict[str, Any]:
    """Make the schema of a type, or of alternatives, with what it refers to in `$defs`."""
    schemas, inner = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    if len(schemas) > 1:
        whole: dict[str, Any] = {"anyOf": list(schemas)}
    else:
        whole = schemas[0]
        name = whole.get("$ref", "").rpartition("/")[2]
        if name:
            whole = inner.pop(name)
    if inner:
        whole = whole | {"$defs": dict(sorted(inner.items()))}
    made: dict[str, Any] = in_one_line(whole)
    return made


def _examples() -> dict[str, list[Any]]:
    """Give the examples of the OpenAPI document by the file of the body that they are of."""
    found: dict[str, list[Any]] = {}
    for operation in operations():
        given = [content for each in operation.given for content in each.content]
        for content in (*operation.content, *given):
            for name, types in BODIES.items():
                if types == (content.type,):
                    values = [each.value for each in content.examples]
                    found[name] = found.get(name) or values
    return found


def _configuration() -> dict[str, Any]:
    """Make the schema of gateway.toml: durations have a spelling, unknown names are refused."""
    schema = _schema((ConfigurationFile,))
    kinds = {kind.__name__: kind for kind in (*_sections(), *UPSTREAM_KINDS.values())}
    for name, inner in schema["$defs"].items():
        inner["additionalProperties"] = False
        for member, pattern in _spans(kinds[name]).items():
            inner["properties"][member]["pattern"] = pattern
    schema["additionalProperties"] = False
    for section in schema["properties"].values():
        section.pop("default")  # its members have theirs
    schema["properties"]["upstream"]["maxItems"] = UPSTREAMS_MAX
    made: dict[str, Any] = _in_json_dialect(schema)
    return made


def _sections() -> list[type[Any]]:
    return [type(each.default) for each in fields(Config) if isinstance(each.default, Section)]


def _spans(kind: type[Any]) -> dict[str, str]:
    """Give the members of a table that are durations, with how they are spelled."""
    found = {}
    for member, hint in get_type_hints(kind, include_extras=True).items():
        for meta in getattr(hint, "__metadata__", ()):
            least_ms = (meta.extra or {}).get("least_ms")
            if least_ms is not None:
                found[member] = _SPAN_NOT_ZERO if least_ms else _SPAN
    return found


def _in_json_dialect(schema: Any) -> Any:
    r"""Spell the ends of patterns as JSON Schema does: Python's \A and \Z are unknown to it."""
    if isinstance(schema, dict):
        return {
            name: value.replace(r"\A", "^").replace(r"\Z", "$")
            if name == "pattern" and isinstance(value, str)
            else _in_json_dialect(value)
            for name, value in schema.items()
        }
    return [_in_json_dialect(each) for each in schema] if isinstance(schema, list) else schema
