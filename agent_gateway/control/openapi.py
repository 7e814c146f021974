"""`/openapi.json`: the OpenAPI 3.1 document of every path, made from the tables that serve them.

Promise: what a client may send and what it may get are as wide as the gateway takes and gives them; fields it does not know pass through.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import msgspec
from msgspec import Struct

from agent_gateway import __version__
from agent_gateway.control.admin_route import Route

_REF = "#/components/schemas/{name}"
#: Answers that any request may get, beside those of its path.
_REFUSALS = ("400", "401", "403", "404", "405", "408", "409", "413", "415", "422", "429", "431", "500", "502", "503", "504")

#: In whose protocol errors come: where models are asked it is the path's, elsewhere that of the client, as its headers tell it.
Style = Literal["OpenAI", "Anthropic", "Gemini", "Any"]


class Operation(Struct, frozen=True, kw_only=True):
    """A path that is not the admin API's. `fields`: of the request's body, with their schemas; those of `required` must be there."""

    method: Literal["get", "post", "delete"]
    path: str
    summary: str
    tag: str
    style: Style = "Any"
    fields: dict[str, Any] | None = None
    required: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    #: A model answers: its answer may be a stream.
    is_model: bool = False
    may_stream: bool = False
    is_open: bool = False
    is_socket: bool = False
    #: Of the answer.
    media: str = "application/json"
    #: Of the request.
    sent_as: str = "application/json"


_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_LIST = {"type": "array"}
_OBJECT = {"type": "object"}
_TEXT_OR_NULL = {"type": ["string", "null"]}
_TEXT_OR_LIST = {"type": ["string", "array"]}
_INPUT = {"type": ["string", "array", "null"]}
_COUNT = {"type": "integer", "minimum": 1}

_CHAT = {"model": _TEXT, "messages": _LIST, "stream": _FLAG, "user": _TEXT, "metadata": _OBJECT}
_GEMINI = {"contents": _LIST}
_NEW_BATCH = {
    "input_file_id": _TEXT,
    "endpoint": _TEXT,
    "completion_window": _TEXT,
    "metadata": {"type": ["object", "null"]},
    "output_expires_after": {"type": ["object", "null"]},
    "deduplicate": {"type": ["boolean", "null"]},
}


def _model(path: str, summary: str, fields: dict[str, Any], required: Sequence[str], style: Style = "OpenAI") -> Operation:
    return Operation(
        method="post", path=path, summary=summary, tag=style, style=style, fields=fields, required=tuple(required), is_model=True
    )


def _get(path: str, summary: str, tag: str, **more: Any) -> Operation:
    return Operation(method="get", path=path, summary=summary, tag=tag, **more)


_FILE = "/v1/files/{file_id}"
_REQUEST = {
    "type": "object",
    "properties": {"custom_id": _TEXT, "url": _TEXT, "body": _OBJECT},
    "required": ["custom_id", "body"],
}
_PAGE = ("limit", "order", "after")
_RESPONSE = "/v1/responses/{response_id}"
_CONVERSATIONS = "/v1/conversations"
_CONVERSATION = f"{_CONVERSATIONS}/{{conversation_id}}"
_ITEMS = f"{_CONVERSATION}/items"
#: A test holds them against what the edge serves.
OPERATIONS: tuple[Operation, ...] = (
    _model("/v1/chat/completions", "Has a model answer a conversation", _CHAT, ["model", "messages"]),
    _get(
        "/v1/chat/completions",
        "With `Upgrade: websocket`: many conversations over one socket",
        "OpenAI",
        is_socket=True,
    ),
    _model("/v1/completions", "Has a model go on from a text", {"model": _TEXT, "prompt": {}, "stream": _FLAG}, ["model", "prompt"]),
    _model("/v1/embeddings", "Has a model embed texts", {"model": _TEXT, "input": _TEXT_OR_LIST}, ["model", "input"]),
    _model(
        "/v1/responses",
        "Has a model answer; the answer is kept, and others can go on from it",
        {"model": _TEXT, "input": _INPUT, "stream": _FLAG, "background": _FLAG, "previous_response_id": _TEXT_OR_NULL},
        ["model"],
    ),
    _model(
        "/v1/messages",
        "Has a model answer a conversation",
        {"model": _TEXT, "messages": _LIST, "max_tokens": _COUNT, "stream": _FLAG},
        ["model", "messages", "max_tokens"],
        "Anthropic",
    ),
    _model(
        "/v1/messages/count_tokens",
        "Counts the tokens of a conversation",
        {"model": _TEXT, "messages": _LIST},
        ["model", "messages"],
        "Anthropic",
    ),
    *(
        _model(f"/{version}/{kind}/{{model}}:{what}", summary, _GEMINI, ["contents"], "Gemini")
        for version in ("v1beta", "v1")
        for kind in ("models", "tunedModels")
        for what, summary in (("generateContent", "Has a model answer"), ("streamGenerateContent", "Has a model answer in a stream"))
    ),
    _get("/v1/models", "The models that the key may use", "Models"),
    _get("/v1/models/{model}", "One model", "Models"),
    _get("/v1beta/models", "The models that the key may use", "Models"),
    _get("/v1beta/models/{model}", "One model", "Models"),
    _get(_RESPONSE, "A response that is kept; `stream=true` takes its stream up again", "Responses", query=("stream", "starting_after")),
    Operation(method="delete", path=_RESPONSE, summary="Forgets a response", tag="Responses"),
    Operation(method="post", path=f"{_RESPONSE}/cancel", summary="Cancels a response in the background", tag="Responses", fields={}),
    _get(f"{_RESPONSE}/input_items", "What a response answers", "Responses", query=_PAGE),
    Operation(method="post", path=_CONVERSATIONS, summary="Makes a conversation", tag="Responses", fields={"items": {}, "metadata": {}}),
    _get(_CONVERSATION, "One conversation", "Responses"),
    Operation(method="post", path=_CONVERSATION, summary="Changes its metadata", tag="Responses", fields={"metadata": {}}),
    Operation(method="delete", path=_CONVERSATION, summary="Forgets a conversation", tag="Responses"),
    _get(_ITEMS, "Its items", "Responses", query=_PAGE),
    Operation(method="post", path=_ITEMS, summary="Adds items", tag="Responses", fields={"items": _LIST}, required=("items",)),
    _get(f"{_ITEMS}/{{item_id}}", "One item", "Responses"),
    Operation(method="delete", path=f"{_ITEMS}/{{item_id}}", summary="Forgets an item", tag="Responses"),
    _get("/v1/sessions", "One's own sessions", "Sessions", query=("limit", "cursor")),
    _get("/v1/sessions/{session_id}", "One session, with its turns", "Sessions"),
    Operation(method="delete", path="/v1/sessions/{session_id}", summary="Forgets a session", tag="Sessions"),
    _get("/v1/files", "One's own files", "Batches", query=("limit", "after", "purpose")),
    Operation(
        method="post",
        path="/v1/files",
        summary="Takes a file, whose lines are the requests of a batch",
        tag="Batches",
        fields={
            "file": {"type": "string", "contentMediaType": "application/octet-stream"},
            "purpose": {"const": "batch"},
            "expires_after[anchor]": {"const": "created_at"},
            "expires_after[seconds]": _COUNT,
        },
        required=("file", "purpose"),
        sent_as="multipart/form-data",
    ),
    _get(_FILE, "One file, without its content", "Batches"),
    Operation(method="delete", path=_FILE, summary="Deletes a file", tag="Batches"),
    _get(f"{_FILE}/content", "A file's content", "Batches", media="application/octet-stream"),
    _get("/v1/batches", "One's own batches", "Batches", query=("limit", "after")),
    Operation(
        method="post",
        path="/v1/batches",
        summary="Has every request in a file answered",
        tag="Batches",
        fields=_NEW_BATCH,
        required=("input_file_id", "endpoint", "completion_window"),
    ),
    _get("/v1/batches/{batch_id}", "One batch: how far it is, what it cost", "Batches"),
    Operation(method="post", path="/v1/batches/{batch_id}/cancel", summary="Cancels a batch", tag="Batches", fields={}),
    Operation(
        method="post",
        path="/v1/batch",
        summary="Has many requests answered in one; with `stream`, each as soon as it is",
        tag="Batches",
        fields={"requests": {"type": "array", "items": _REQUEST}, "stream": _FLAG},
        required=("requests",),
        may_stream=True,
    ),
    Operation(
        method="post",
        path="/v1/feedback",
        summary="Takes what is thought of an answer; a second time replaces the first",
        tag="Operation",
        fields={
            "request_id": {"type": "string", "minLength": 1, "maxLength": 100},
            "score": {"type": "integer", "minimum": 1, "maximum": 5},
            "comment": {"type": ["string", "null"], "maxLength": 2000},
        },
        required=("request_id", "score"),
    ),
    _get("/v1/streams/{request_id}", "Takes a stream up again", "Sessions", query=("starting_after",), media="text/event-stream"),
    _get("/health/live", "The process answers", "Operation", is_open=True),
    _get("/health/ready", "It takes requests", "Operation", is_open=True),
    _get("/metrics", "Prometheus' metrics", "Operation", is_open=True, media="text/plain"),
    _get("/openapi.json", "This document", "Operation", is_open=True),
)


def document(routes: Sequence[Route]) -> bytes:
    """`routes`: the admin API's."""
    types = _types(routes)
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    shown = dict(zip(map(str, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    for route in routes:
        paths.setdefault(f"/admin/v1/{route.path}", {})[route.method.lower()] = _admin_operation(route, shown)
    told = {
        "openapi": "3.1.0",
        "info": {
            "title": "agent-gateway",
            "version": __version__,
            "description": "One gateway before many models: what clients ask, and what its operators see and change.",
        },
        "servers": [{"url": "/"}],
        "security": [{name: []} for name in _SCHEMES],
        "paths": paths,
        "components": {
            "schemas": {**components, **_ERRORS},
            "responses": {f"{style}Refused": _refused(style) for style in get_args(Style)},
            "headers": _HEADERS,
            "securitySchemes": _SCHEMES,
        },
    }
    return msgspec.json.encode(told)


def _types(routes: Sequence[Route]) -> list[Any]:
    """Each once, as `schema_components` wants them."""
    types = [part for route in routes for part in (route.answer, route.body) if part is not None]
    return list({str(kind): kind for kind in types}.values())


# --- a path -----------------------------------------------------------------------------------------------------------


def _operation(operation: Operation) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "The answer", "headers": _header_refs(_MODEL_HEADERS if operation.is_model else ())}
    if operation.is_socket:
        answers: dict[str, Any] = {"101": {"description": "The socket is open (docs/websocket.md)"}}
    else:
        answer["content"] = {operation.media: {"schema": _OBJECT if operation.media == "application/json" else _TEXT}}
        if operation.is_model or operation.may_stream or "stream" in operation.query:
            answer["content"]["text/event-stream"] = {"schema": _TEXT}
        answers = {"200": answer}
    told: dict[str, Any] = {
        "operationId": _operation_id(operation.method, operation.path),
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [*_places(operation.path), *({"name": name, "in": "query", "schema": _TEXT} for name in operation.query)],
        "responses": {**answers, **_refusals(operation.style)},
    }
    if operation.is_open:
        told["security"] = []
    if operation.fields is not None:
        schema = {"type": "object", "properties": operation.fields, "required": list(operation.required)}
        told["requestBody"] = {"required": bool(operation.required), "content": {operation.sent_as: {"schema": schema}}}
    return told


_FOR = {"anyone": "For everybody.", "auditor": "For auditors and admins.", "admin": "For admins."}


def _admin_operation(route: Route, shown: dict[str, Any]) -> dict[str, Any]:
    schema = shown[str(route.answer)]
    content = {route.media: {"schema": schema}, **({route.or_media: {"schema": _TEXT}} if route.or_media else {})}
    answer = {"description": "Done", "headers": _header_refs(), "content": content}
    told: dict[str, Any] = {
        "operationId": _operation_id(route.method, f"/admin/v1/{route.path}"),
        "summary": route.summary,
        "description": _FOR[route.role],
        "tags": ["Admin"],
        "parameters": [*_places(route.path), *_queried(route.query)],
        "responses": {str(route.status): answer, **_refusals("Any")},
    }
    if route.role == "anyone":
        told["security"] = []
    if route.body is not None:
        content = {"application/json": {"schema": shown[str(route.body)]}}
        told["requestBody"] = {"required": not route.may_be_empty, "content": content}
    return told


def _operation_id(method: str, path: str) -> str:
    return "_".join([method.lower(), *re.findall(r"\w+", path)])


def _places(path: str) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"\{(\w+)\}", path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _queried(query: type[Struct]) -> Iterator[dict[str, Any]]:
    (_,), components = msgspec.json.schema_components([query], ref_template=_REF)
    for name, schema in components[query.__name__]["properties"].items():
        yield {"name": name, "in": "query", "required": False, "schema": _sayable(schema)}


def _sayable(schema: dict[str, Any]) -> dict[str, Any]:
    """What a query cannot say is left out of it: null."""
    said = {name: value for name, value in schema.items() if name not in ("anyOf", "default") or (name == "default" and value is not None)}
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    return {**said, **kinds[0]} if len(kinds) == 1 else said


def _refusals(style: Style) -> dict[str, Any]:
    return {status: {"$ref": f"#/components/responses/{style}Refused"} for status in _REFUSALS}


def _refused(style: Style) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{style}Error"}}}
    return {"description": "Refused, or failed", "headers": _header_refs(("retry-after",)), "content": content}


def _header_refs(names: Sequence[str] = ()) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("x-request-id", *names)}


# --- what they share --------------------------------------------------------------------------------------------------

_MODEL_HEADERS = (
    "x-gateway-status",
    "x-gateway-model",
    "x-gateway-attempts",
    "x-gateway-cost-usd",
    "x-gateway-quality",
    "x-gateway-overhead-ms",
    "x-gateway-reason",
    "x-session-id",
)
_HEADERS: dict[str, Any] = {
    "x-request-id": {"description": "The gateway's own id of the request", "schema": _TEXT},
    "x-gateway-status": {"schema": {"enum": ["success", "fallback", "degraded", "cached"]}},
    "x-gateway-model": {"description": "The deployment that answered: provider/model", "schema": _TEXT},
    "x-gateway-attempts": {"schema": {"type": "string", "pattern": "^[0-9]+$"}},
    "x-gateway-cost-usd": {"description": "Of a unary answer", "schema": _TEXT},
    "x-gateway-quality": {"description": "Of a unary answer", "schema": _TEXT},
    "x-gateway-overhead-ms": {"description": "Of a unary answer", "schema": _TEXT},
    "x-gateway-reason": {"description": "Why the status is not success", "schema": _TEXT},
    "x-session-id": {"schema": _TEXT},
    "retry-after": {"description": "Seconds", "schema": _TEXT},
}
_ERRORS: dict[str, Any] = {
    "AnyError": {"anyOf": [{"$ref": f"#/components/schemas/{style}Error"} for style in ("OpenAI", "Anthropic", "Gemini")]},
    "OpenAIError": {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {"message": _TEXT, "type": _TEXT, "param": _TEXT_OR_NULL, "code": _TEXT_OR_NULL},
                "required": ["message"],
            }
        },
        "required": ["error"],
    },
    "AnthropicError": {
        "type": "object",
        "properties": {
            "type": {"const": "error"},
            "error": {"type": "object", "properties": {"type": _TEXT, "message": _TEXT}, "required": ["type", "message"]},
            "request_id": _TEXT_OR_NULL,
        },
        "required": ["type", "error"],
    },
    "GeminiError": {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {"code": {"type": "integer"}, "message": _TEXT, "status": _TEXT},
                "required": ["code", "message", "status"],
            }
        },
        "required": ["error"],
    },
}
_SCHEMES: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
    "x-goog-api-key": {"type": "apiKey", "in": "header", "name": "x-goog-api-key"},
}
