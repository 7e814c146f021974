"""Chat passed through to chat: what is edited of a request, and of an answer nothing but a name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.core.call import Call
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.base import codec_of
from agent_gateway.protocols.openai_chat.relay import StreamRelay
from tests.kit.samples import COMPLETION, DONE, renamed, text_frames
from tests.protocols.conversations import cut

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


PADDED = (
    b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}],"usage":null,"obfuscation":"%b"}\n\n'
)
#: The name is behind the padding, and padding stands before the text too, or twice behind it.
ODDLY_PADDED = [
    b'data: {"choices":[{"delta":{"content":"%b"}}],"obfuscation":"%b","model":"m"}\r\n\r\n',
    b'data: {"obfuscation":"x","model":"m","choices":[{"delta":{"content":"%b","obfuscation" : "%b"}}],"obfuscation":"y"}\n\n',
]
paddings = st.sampled_from([b"aX3", b"", b"Zq", rb"a\"b", rb"\\", rb"\u0041"])
texts = st.sampled_from([b" token", b"", "你好".encode(), rb"\"}],\"obfuscation\":\"a", rb"\n\\", b"b"])


@given(data=st.data())
def test_padded_text_passes_as_if_each_frame_had_been_parsed(data: st.DataObject) -> None:
    frame = st.builds(lambda form, text, padding: form % (text, padding), st.sampled_from([PADDED] * 3 + ODDLY_PADDED), texts, paddings)
    frames = data.draw(st.lists(frame, max_size=12))
    relay = StreamRelay("chat", strip_usage=True)
    got = b"".join([relay.feed(piece) for piece in data.draw(cut(b"".join(frames)))])
    assert got == b"".join([StreamRelay("chat", strip_usage=True).feed(frame) for frame in frames])
    relay.keep()
    assert said(b"".join([kept for kept in relay.sent if type(kept) is bytes])) == said(b"".join(frames))


def said(frames: bytes) -> str:
    chunks = [msgspec.json.decode(line[6:]) for line in frames.splitlines() if line]
    return "".join([chunk["choices"][0]["delta"]["content"] for chunk in chunks])


def test_padded_text_is_known_at_a_glance() -> None:
    relay = StreamRelay("chat", strip_usage=True)
    relay.feed(PADDED % (b"a", b"x"))
    client = (PADDED % (b"b", b"yz") + PADDED % (b"c", b"")).replace(b'"model":"m"', b'"model":"chat"').replace(b'"usage":null,', b"")
    assert relay.feed_text(PADDED % (b"b", b"yz") + PADDED % (b"c", b"")) == client
    assert relay.feed_text(PADDED % (b"b", rb"y\n")) is None
    assert relay.feed_text(PADDED % (rb"\"", b"y")) is None
