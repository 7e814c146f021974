"""What the gateway reads of a Gemini request: model and method of the path, needs of the body."""

from __future__ import annotations

import msgspec
import pytest

from agent_gateway.core.call import Call, Need
from agent_gateway.core.errors import BadRequest, NotFound
from agent_gateway.protocols.gemini.codec import Gemini
from tests.protocols.gemini.sdk import Oracle

BODY = b'{"contents":[{"parts":[{"text":"hi"}]}]}'
UNARY = "/v1beta/models/m:generateContent"


def read(body: object, path: str = UNARY) -> Call:
    return Gemini().read_call(body if isinstance(body, bytes) else msgspec.json.encode(body), {}, path)


def with_config(**config: object) -> dict[str, object]:
    return {"contents": [{"parts": [{"text": "hi"}]}], "generationConfig": config}


def with_part(**part: object) -> dict[str, object]:
    return {"contents": [{"role": "user", "parts": [{"text": "see"}, part]}]}


@pytest.mark.parametrize(
    ("path", "model", "stream", "framing"),
    [
        ("/v1beta/models/gpt-4o-mini:generateContent", "gpt-4o-mini", False, "sse"),
        ("/v1/models/gpt-4o-mini:generateContent?alt=json", "gpt-4o-mini", False, "sse"),
        ("/v1beta/models/gpt-4o-mini:streamGenerateContent?alt=sse", "gpt-4o-mini", True, "sse"),
        ("/v1beta/models/gpt-4o-mini:streamGenerateContent?key=k&alt=sse", "gpt-4o-mini", True, "sse"),
        ("/v1beta/models/gpt-4o-mini:streamGenerateContent", "gpt-4o-mini", True, "json_array"),
        ("/v1beta/models/gpt-4o-mini:streamGenerateContent?alt=json", "gpt-4o-mini", True, "json_array"),
        ("/v1beta/models/openai/gpt-4o:generateContent", "openai/gpt-4o", False, "sse"),
        ("/v1beta/models/openai%2Fgpt%204o%3Amini:generateContent", "openai/gpt 4o:mini", False, "sse"),
        ("/v1beta/models/m%3AstreamGenerateContent?alt=sse", "m", True, "sse"),
        ("/v1beta/tunedModels/mine-1:generateContent", "tunedModels/mine-1", False, "sse"),
    ],
)
def test_the_path_says_model_method_and_framing(path: str, model: str, stream: bool, framing: str) -> None:
    call = read(BODY, path)
    assert (call.dialect, call.model, call.stream, call.framing, call.body) == ("gemini", model, stream, framing, BODY)


@pytest.mark.parametrize(
    "path",
    ["/v1beta/models/:generateContent", "/v1beta/models/m:embedContent", "/v1beta/models/m", "/v1/files/m:generateContent"],
)
def test_another_path_is_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        read(BODY, path)


def test_the_paths_that_the_sdk_asks_for_are_understood() -> None:
    for model in ("m", "models/m", "tunedModels/mine", "openai/gpt-4o"):
        for stream in (False, True):
            path, body = Oracle().request({}, model=model, stream=stream)
            call = read(body, path)
            assert (call.model, call.stream, call.framing) == (model.removeprefix("models/"), stream, "sse")


@pytest.mark.parametrize(
    ("body", "needs"),
    [
        (BODY, set()),
        ({"contents": [{"parts": [{"text": '"inlineData": {"mimeType": "image/png"}'}]}]}, set()),
        (with_part(inlineData={"mimeType": "image/png", "data": "aGk="}), {"vision"}),
        (with_part(inline_data={"mime_type": "image/png", "data": "aGk="}), {"vision"}),
        (with_part(fileData={"mimeType": "video/mp4", "fileUri": "https://e.com/a"}), {"vision"}),
        (with_part(fileData={"fileUri": "https://e.com/a.pdf"}), {"documents"}),
        (with_part(inlineData={"mimeType": "audio/wav", "data": "aGk="}), {"audio"}),
        ({"contents": {"parts": {"inlineData": {"mimeType": "application/pdf", "data": "aGk="}}}}, {"documents"}),
        ({"contents": [{}], "tools": [{"functionDeclarations": [{"name": "f"}]}]}, {"tools"}),
        (with_config(responseSchema={"type": "OBJECT"}), {"json_schema"}),
        (with_config(response_json_schema={}), {"json_schema"}),
        (with_config(responseMimeType="application/json"), set()),
        (with_config(thinkingConfig={"thinkingBudget": 0}), set()),
        (with_config(thinkingConfig={"thinkingBudget": -1}), {"reasoning"}),
        (with_config(thinking_config={"thinking_level": "LOW"}), {"reasoning"}),
    ],
)
def test_needs(body: object, needs: set[Need]) -> None:
    assert read(body).needs == needs


def test_what_else_the_gateway_acts_on() -> None:
    call = read(with_config(maxOutputTokens=7, responseMimeType="application/json"))
    assert (call.max_output_tokens, call.wants_json, call.conversational) == (7, True, False)
    call = read(
        {"contents": [{}], "toolConfig": {"functionCallingConfig": {"mode": "ANY"}}, "generation_config": {"maxOutputTokens": 0}}
    )
    assert (call.max_output_tokens, call.wants_json, call.conversational) == (None, False, False)
    assert read(BODY).conversational


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "contents"),
        (b'{"contents": []}', "contents"),
        (b'{"contents": "hi"}', "contents"),
        (b'{"contents":[{}],"generation_config":{"max_output_tokens":"many"}}', "generationConfig.maxOutputTokens"),
        (b"", None),
        (b"[1]", None),
        (b'{"contents":[{"parts":[{"text":"\xff"}]}]}', None),
    ],
)
def test_a_wrong_request_is_refused_by_the_field_s_path(body: bytes, param: str | None) -> None:
    with pytest.raises(BadRequest) as caught:
        read(body)
    assert caught.value.param == param


def test_the_same_call_for_an_answer_in_one_piece() -> None:
    call = read(BODY, "/v1beta/models/m:streamGenerateContent?alt=sse")
    unary = Gemini().as_unary(call)
    assert (unary.stream, unary.body, unary.model) == (False, BODY, "m")
