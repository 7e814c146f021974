"""Chat passed through to chat: what is edited of a request, and of an answer nothing but a name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent_gateway.core.call import Call
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.base import codec_of
from tests.kit.samples import COMPLETION, DONE, renamed, text_frames

codec = codec_of("openai_chat")
BODY = b'{ "messages": [{"role":"user","content":"Hi","odd":1}], "model":"asked", "max_tokens": 90, "unknown": {"a": [1.50]} }'
ASKED = codec.read_call(BODY, {}, "/v1/chat/completions")


def sent(call: Call) -> dict[str, Any]:
    members: dict[str, Any] = msgspec.json.decode(call.body)
    return members


@pytest.mark.parametrize("data", [COMPLETION, *text_frames(["a"], usage=True), b": comment\n\n", b"\n\n", DONE])
def test_nothing_but_the_name_changes(data: bytes) -> None:
    assert codec.renamed(data, 'new "name"') == renamed(data, 'new \\\\"name\\\\"')


def test_a_frame_of_several_lines_is_put_on_one() -> None:
    assert codec.renamed(b'data: {"model":\ndata: "a"}\n\n', "b") == b'data: {"model":\ndata: "b"}\n\n'


def test_a_request_that_needs_no_change_is_the_clients_own() -> None:
    assert codec.pass_request(ASKED, Deployment("p/asked", "p", "asked")) is BODY
    changed = codec.pass_request(
        ASKED, Deployment("p/m", "p", "m", default={"top_p": 0.5}, override={"max_completion_tokens": 7})
    )
    assert msgspec.json.decode(changed) == {
        "messages": [{"role": "user", "content": "Hi", "odd": 1}],
        "model": "m",
        "unknown": {"a": [1.5]},
        "top_p": 0.5,
        "max_completion_tokens": 7,
    }
    assert b"1.50" in changed


def test_the_same_call_in_one_piece() -> None:
    streamed = codec.read_call(BODY[:-1] + b',"stream":true,"stream_options":{"include_usage":true}}', {}, "")
    whole = codec.as_unary(streamed)
    assert (streamed.stream, whole.stream) == (True, False)
    assert sent(whole) == msgspec.json.decode(BODY)


@pytest.mark.parametrize(
    ("prefill", "turn", "more"),
    [
        ("plain", {}, {}),
        ("prefix", {"prefix": True}, {}),
        ("continue_final_message", {}, {"continue_final_message": True, "add_generation_prompt": False}),
    ],
)
def test_an_answer_is_carried_on_in_the_deployments_way(prefill: Any, turn: dict[str, Any], more: dict[str, Any]) -> None:
    carried_on = sent(codec.continued(ASKED, "x" * 40, Deployment("p/m", "p", "m", prefill=prefill)))
    last = {"role": "assistant", "content": "x" * 40, **turn}
    history = [{"role": "user", "content": "Hi", "odd": 1}]
    assert carried_on == {**msgspec.json.decode(BODY), "messages": [*history, last], "max_tokens": 80, **more}


def test_a_limit_that_was_reached_leaves_one_token() -> None:
    assert sent(codec.continued(ASKED, "x" * 4000, Deployment("p/m", "p", "m", prefill="plain")))["max_tokens"] == 1
