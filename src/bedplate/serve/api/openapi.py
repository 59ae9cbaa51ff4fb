"""The OpenAPI document (3.1), generated from the endpoints: what it says is what the routes do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from bedplate import __version__
from bedplate.serve.api.endpoint import Endpoint, Problem

_PARAMETER = re.compile(r"\{([a-z_]+)\}")
_REF = "#/components/schemas/{model}"


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The document for a set of endpoints."""
    endpoints = list(endpoints)
    wanted: list[tuple[Any, JsonSchemaMode, TypeAdapter[Any]]] = [(Problem, "serialization", TypeAdapter(Problem))]
    for one in endpoints:
        wanted.append((one.query, "validation", TypeAdapter(one.query)))
        if one.body is not None:
            wanted.append((one.body, "validation", TypeAdapter(one.body)))
        if one.answer is not None:
            wanted.append((one.answer, "serialization", TypeAdapter(one.answer)))
    schemas, definitions = TypeAdapter.json_schemas(wanted, ref_template=_REF)
    paths: dict[str, Any] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, schemas, definitions.get("$defs", {}))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Bedplate update service",
            "version": __version__,
            "description": "What people and provisioning systems ask of the service. Nodes poll plain files.",
        },
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(one: Endpoint, schemas: dict[Any, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1, "maxLength": 128}}
        for name in _PARAMETER.findall(one.path)
    ]
    query = schemas[one.query, "validation"]
    query = definitions[query["$ref"].rsplit("/", 1)[1]] if "$ref" in query else query
    parameters += [
        {"name": name, "in": "query", "required": name in query.get("required", ()), "schema": schema}
        for name, schema in query.get("properties", {}).items()
    ]
    problem = {"content": {"application/json": {"schema": schemas[Problem, "serialization"]}}}
    statuses = {400, 413, 503, *one.problems, *((401, 403) if one.role is not None else ())}
    if _PARAMETER.search(one.path):
        statuses.add(404)
    responses: dict[str, Any] = {str(status): {"description": _WORDS[status], **problem} for status in sorted(statuses)}
    responses["413"] = {"description": _WORDS[413]}
    done: dict[str, Any] = {"description": "done"}
    if one.answer is not None:
        done["content"] = {"application/json": {"schema": schemas[one.answer, "serialization"]}}
    responses[str(one.status)] = done
    operation: dict[str, Any] = {
        "operationId": one.handler.__name__,
        "summary": one.summary,
        "parameters": parameters,
        "responses": dict(sorted(responses.items())),
    }
    if one.role is not None:
        operation["security"] = [{"token": []}]
        operation["description"] = f"Needs the role {one.role.value}."
    if one.body is not None:
        content = {"application/json": {"schema": schemas[one.body, "validation"]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


_WORDS = {
    400: "the request is not as it must be",
    401: "nobody of this service",
    403: "not allowed",
    404: "not there",
    409: "not as the asker thought any more",
    413: "too large",
    503: "not now",
}
