"""The OpenAPI document is one, names every path that is served and none that is not, and says what is true of each."""

from __future__ import annotations

import re
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest

from agent_gateway.app import Gateway
from agent_gateway.control.admin.api import AdminApi
from agent_gateway.control.load import compile_mapping
from agent_gateway.control.openapi import OPERATIONS
from agent_gateway.core.call import Dialect
from agent_gateway.edge import batches, responses, routes
from agent_gateway.edge.app import App
from agent_gateway.edge.routes import dialect_of


@pytest.fixture
def gateway() -> Gateway:
    models = {"chat": {"deployments": [{"provider": "sim", "model": "small", "price": {"input": 1, "output": 2}}]}}
    state = {"database": "sqlite:///:memory:"}
    return Gateway(compile_mapping({"state": state, "providers": {"sim": {"kind": "simulated"}}, "models": models}), environ={})


@pytest.fixture
def told(gateway: Gateway) -> Any:
    assert gateway.app._admin is not None
    return msgspec.json.decode(gateway.app._admin.openapi())


def plain(path: str) -> str:
    """With its places alike, whatever they are called."""
    return re.sub(r"\{\w+\}|\(\[\^/\]\+\)", "{}", path)


def served(app: App) -> set[tuple[str, str]]:
    """What the edge's own tables say, and the places that stand in its code."""
    found = {(method.lower(), path) for path, methods in app._routes.items() for method in methods}
    found |= {("post", path.decode()) for path in routes.MODEL_PATHS}
    found |= {(method.lower(), plain(path.pattern)) for method, path, _ in [*responses._ROUTES, *batches._ROUTES]}
    found |= {("get", f"{place}{{}}") for place in ("/v1/models/", "/v1beta/models/", "/v1/sessions/", "/v1/streams/")}
    found |= {("delete", "/v1/sessions/{}"), ("get", "/v1/chat/completions")}
    versions, kinds, what = ("v1beta", "v1"), ("models", "tunedModels"), ("generateContent", "streamGenerateContent")
    return found | {("post", f"/{version}/{kind}/{{}}:{verb}") for version in versions for kind in kinds for verb in what}


def test_every_path_that_is_served_is_in_it_and_no_other(gateway: Gateway, told: Any) -> None:
    paths = {(method, plain(path)) for path, methods in told["paths"].items() for method in methods if not path.startswith("/admin/")}
    assert paths == served(gateway.app)
    admin = {(method.upper(), path) for path, methods in told["paths"].items() for method in methods if path.startswith("/admin/")}
    api = gateway.app._admin
    assert isinstance(api, AdminApi)
    assert admin == {(route.method, f"/admin/v1/{route.path}") for route in api.routes}


@pytest.mark.parametrize("operation", [operation for operation in OPERATIONS if operation.is_model], ids=lambda operation: operation.path)
def test_models_are_asked_where_it_says_and_in_that_protocol(operation: Any) -> None:
    dialect: Dialect | None = dialect_of(operation.path.replace("{model}", "m").encode())
    assert dialect is not None
    style = "Anthropic" if dialect.startswith("anthropic") else "Gemini" if dialect == "gemini" else "OpenAI"
    assert operation.style == style


def test_every_schema_in_it_is_one(told: Any) -> None:
    schemas = [*told["components"]["schemas"].values()]
    for methods in told["paths"].values():
        for operation in methods.values():
            schemas += [parameter["schema"] for parameter in operation["parameters"]]
            schemas += [content["schema"] for content in operation.get("requestBody", {}).get("content", {}).values()]
            schemas += [content["schema"] for answer in operation["responses"].values() for content in answer.get("content", {}).values()]
    for schema in schemas:
        jsonschema.Draft202012Validator.check_schema(schema)


def test_it_is_of_the_form_that_openapi_has(told: Any) -> None:
    assert told["openapi"] == "3.1.0"
    assert set(told) == {"openapi", "info", "servers", "security", "paths", "components"}
    names = [operation["operationId"] for methods in told["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))
    for path, methods in told["paths"].items():
        assert path.startswith("/")
        for method, operation in methods.items():
            assert method in ("get", "post", "put", "patch", "delete")
            assert operation["summary"]
            places = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
            assert places == re.findall(r"\{(\w+)\}", path)
            assert all(answer.keys() == {"$ref"} or "description" in answer for answer in operation["responses"].values())


def test_every_reference_leads_somewhere(told: Any) -> None:
    for reference in set(re.findall(r'"\$ref":"#/([^"]+)"', msgspec.json.encode(told).decode())):
        place = told
        for name in reference.split("/"):
            place = place[name]
        assert place


def test_what_needs_no_key_is_marked(told: Any) -> None:
    """The journeys hold the list against the gateway itself."""
    marked = {path for path, methods in told["paths"].items() for operation in methods.values() if operation.get("security") == []}
    assert marked == {"/health/live", "/health/ready", "/metrics", "/openapi.json", "/admin/v1/login"}
