"""What shows on the wire when client and provider speak different protocols, or the same one that is not OpenAI chat."""

from __future__ import annotations

from typing import Any

import httpx2
import msgspec
import pytest

from tests.kit.crossing import KINDS
from tests.kit.gateway import Gateway

HI = {"contents": [{"role": "user", "parts": [{"text": "Hello there, what is a gateway?"}]}]}
ASKED = {"max_tokens": 200, "messages": [{"role": "user", "content": "Hello there, what is a gateway?"}]}


def post(gateway: Gateway, path: str, body: Any, **headers: str) -> httpx2.Response:
    return httpx2.post(f"{gateway.url}{path}", json=body, headers=headers, timeout=20)


every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_a_gemini_stream_without_sse_is_one_json_array(crossing: Gateway, kind: str) -> None:
    answer = post(crossing, f"/v1beta/models/{kind}:streamGenerateContent", HI)
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert len(told) > 5
    assert told[-1]["candidates"][0]["finishReason"] == "STOP"
    assert {element["modelVersion"] for element in told} == {kind}


@every_kind
def test_an_array_that_breaks_off_is_closed_behind_its_error(crossing: Gateway, kind: str) -> None:
    told = post(crossing, f"/v1beta/models/{kind}:cut-6:streamGenerateContent", HI).json()
    assert "candidates" in told[0]
    error = told[-1]["error"]
    assert (error["code"], error["status"]) == (502, "UNAVAILABLE")


@every_kind
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", {**ASKED, "stream": True}),
        ("/v1/chat/completions", {"messages": ASKED["messages"], "stream": True}),
        ("/v1/responses", {"input": "Hello there?", "stream": True}),
        ("/v1beta/models/{}:streamGenerateContent?alt=sse", HI),
    ],
)
def test_a_cut_stream_ends_with_its_error_and_nothing_after_it(crossing: Gateway, kind: str, path: str, body: Any) -> None:
    answer = post(crossing, path.format(f"{kind}:cut-6"), {"model": f"{kind}:cut-6", **body})
    assert answer.status_code == 200
    *_, last = answer.text.strip().split("\n\n")
    told = msgspec.json.decode(last.partition("data: ")[2])
    assert told["error"]["message"]
    for mark in ("[DONE]", "message_stop", "response.completed", "finishReason"):
        assert mark not in answer.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", {"messages": [{"role": "user", "content": 7}], "max_tokens": 9}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": 7}]}),
        ("/v1/responses", {"input": 7}),
        ("/v1beta/models/anthropic:generateContent", {"contents": 7}),
    ],
)
def test_a_wrong_field_is_named_in_the_clients_protocol(crossing: Gateway, path: str, body: dict[str, Any]) -> None:
    """Also where the mistake shows only once the whole request is read, on its way to a provider of another protocol."""
    model = "openai" if path == "/v1/messages" else "anthropic"
    answer = post(crossing, path, {"model": model, **body})
    assert answer.status_code == 400
    said = answer.json()["error"]["message"]
    assert any(field in said for field in ("messages", "input", "contents")), said


def test_what_a_provider_cannot_say_is_refused_by_the_clients_name_for_it(crossing: Gateway) -> None:
    body = {"model": "anthropic", "messages": ASKED["messages"], "logprobs": True}
    answer = post(crossing, "/v1/chat/completions", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "logprobs"
    assert answer.headers["x-gateway-reason"] == "not_supported_by_provider"
    gemini = {**HI, "generationConfig": {"presencePenalty": 1}}
    answer = post(crossing, "/v1beta/models/anthropic:generateContent", gemini)
    assert answer.status_code == 400
    assert "generationConfig.presencePenalty" in answer.json()["error"]["message"]


def test_the_providers_words_reach_a_client_of_another_protocol_in_its_own_shape(crossing: Gateway) -> None:
    answer = post(crossing, "/v1/messages", {"model": "openai:fail-400", **ASKED})
    told = answer.json()
    assert (answer.status_code, told["type"], told["error"]["type"]) == (400, "error", "invalid_request_error")
    assert "The request is not valid (simulated)" in told["error"]["message"]
    assert told["request_id"] == answer.headers["x-request-id"]


def test_tokens_are_counted_for_any_provider(crossing: Gateway) -> None:
    counts = {}
    for kind in KINDS:
        answer = post(crossing, "/v1/messages/count_tokens", {"model": kind, "messages": ASKED["messages"]})
        assert answer.status_code == 200
        counts[kind] = answer.json()["input_tokens"]
    assert all(3 < count < 40 for count in counts.values()), counts


def test_embeddings(crossing: Gateway) -> None:
    for kind in ("openai", "gemini"):
        answer = post(crossing, "/v1/embeddings", {"model": kind, "input": ["cat", "cat", "dog"]})
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert told["model"] == kind
        cat, again, dog = (item["embedding"] for item in told["data"])
        assert cat == again != dog
        assert told["usage"]["prompt_tokens"] > 0
        record = crossing.record(answer.headers["x-request-id"])
        assert record is None or record["status"] == "success"
    refused = post(crossing, "/v1/embeddings", {"model": "anthropic", "input": "cat"})
    assert refused.status_code == 400
    assert "embeddings" in refused.json()["error"]["message"]


@every_kind
def test_completions(crossing: Gateway, kind: str) -> None:
    whole = post(crossing, "/v1/completions", {"model": kind, "prompt": "Once upon a time", "max_tokens": 30})
    assert whole.status_code == 200, whole.text
    assert whole.json()["object"] == "text_completion"
    assert whole.json()["choices"][0]["text"]
    stream = post(crossing, "/v1/completions", {"model": kind, "prompt": "Once upon a time", "max_tokens": 30, "stream": True})
    assert stream.text.endswith("data: [DONE]\n\n")


def test_models_are_listed_in_each_style(crossing: Gateway) -> None:
    url = f"{crossing.url}/v1/models"
    assert "openai" in {model["id"] for model in httpx2.get(url).json()["data"]}
    anthropic = httpx2.get(url, headers={"anthropic-version": "2023-06-01"}).json()
    assert anthropic["has_more"] is False
    assert {model["type"] for model in anthropic["data"]} == {"model"}
    gemini = httpx2.get(f"{crossing.url}/v1beta/models").json()
    assert "models/gemini" in {model["name"] for model in gemini["models"]}
    assert httpx2.get(f"{crossing.url}/v1beta/models/gemini").json()["name"] == "models/gemini"
    missing = httpx2.get(f"{crossing.url}/v1beta/models/none")
    assert (missing.status_code, missing.json()["error"]["status"]) == (404, "NOT_FOUND")


def test_a_method_of_gemini_that_is_not_there_is_told_with_those_that_are(crossing: Gateway) -> None:
    answer = post(crossing, "/v1beta/models/gemini:countTokens", HI)
    assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")
    assert ":streamGenerateContent" in answer.json()["error"]["message"]
