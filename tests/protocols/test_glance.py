"""Frames known at a glance: whatever comes, the same deltas as by reading each, and the same bytes for the client however they arrive."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.delta import Delta, Finished, ReasoningDelta, Started, TextDelta, ToolCallStarted, Used
from agent_gateway.core.errors import ProviderError
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.base import AnswerHead, StreamReader, codec_of
from agent_gateway.protocols.glance import UNLIKE_MAX, GlancingReader
from agent_gateway.protocols.relay import NO_CONVERSATION, PassingRelay, TranslatingRelay
from agent_gateway.wire.sse import FrameSplitter
from tests.protocols.conversations import cut

HEAD = AnswerHead("abc123", 1_700_000_000, "the-model")
#: What may stand where a JSON string is expected, or instead of it.
TOLD = [b'" token"', b'" more"', '"你好 😀"'.encode(), rb'"\n\"x\" \\ \u4f60 \ud83d\ude00 \/"', b'""', b'"a","b":"c"', b'"a\nb"', b'"\x01"']
TOLD += [rb'"\ud83d"', rb'"\x"', b'"\xff"', b'"a\n\ndata: b"', b' "a"', b"null", b'["a"]', b'"a']
#: Where padding is expected.
PADDING = [b'"aX3"', b'""', b'"Zq"', b'"="', b'"a\\\\"', b'"a\\"', b'"a","b":"c"', b'"a\nb"', b'"\xff"', b"null", b"1", b'"a']
#: Frames of each protocol with a place (@) for the text and some (#) for padding, and others.
TEXTS: dict[Dialect, list[bytes]] = {
    "openai_chat": [
        b'data: {"id":"1","choices":[{"index":0,"delta":{"content":@},"finish_reason":null}]}\n\n',
        b'data: {"choices":[{"delta":{"content":@}}],"obfuscation":#}\n\n',
        b'data: {"id":"1","choices":[{"index":1,"delta":{"content" : @}}]}\r\n\r\n',
        b'data: {"obfuscation":#,"choices":[{"delta":{"content":@,"obfuscation" : #},"obfuscation":#}],"obfuscation":#}\n\n',
        b'data: {"id":"1","choices":[{"index":0,"delta":{"content":@},"finish_reason":"stop"}]}\n\n',
        b'data: {"choices":[{"delta":{"content":@}}],"usage":{"prompt_tokens":1}}\n\n',
        b'data: {"choices":[{"delta":{"content":"kept","content":@}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":@,"c\\u006fntent":" token"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":@},"logprobs":{"content":[]}}]}\n\n',
    ],
    "openai_completions": [
        b'data: {"id":"1","choices":[{"index":0,"text":@}]}\n\n',
        b'data: {"id":"1","choices":[{"index":1,"text":@,"finish_reason":"stop"}]}\n\n',
    ],
    "openai_responses": [
        b'data: {"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":@}\n\n',
        b'data: {"type":"response.output_item.done","item":{"type":"message","content":[{"text":" token token token token token"}]}}\n\n',
    ],
    "anthropic": [
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":@}}\n\n',
        b'data: {"type":"content_block_delta","index":1,"delta":{"type":"thinking_delta","thinking":@}}\n\n',
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":@}}\n\n',
        b'data: {"type":"content_block_stop","index":0}\n\n',
        b'data: {"type":"message_stop"}\n\n',
    ],
    "gemini": [
        b'data: {"candidates":[{"content":{"parts":[{"text":@}],"role":"model"},"index":0}]}\n\n',
        b'data: {"candidates":[{"content":{"parts":[{"text":@,"thought":true}]}}]}\n\n',
        b'data: {"candidates":[{"content":{"parts":[{"text":@}]},"finishReason":"STOP"}]}\n\n',
        b'data: {"candidates":[{"content":{"parts":[{"text":@}]}}],"usageMetadata":{"promptTokenCount":1}}\n\n',
    ],
}
OTHERS = [
    b": comment\n\n",
    b"\n",
    b"data: [DONE]\n\n",
    b'data: {"choices":[{}]}\n\n',
    b"data: {oops\n\n",
    b'data: {"error":{"message":"no"}}\n\n',
]


def reads(reader: StreamReader | GlancingReader, frames: list[bytes]) -> list[Any]:
    """What each frame was read as, up to the first that fails."""
    read: list[Any] = []
    for frame in frames:
        try:
            read.append(reader.feed(frame))
        except ProviderError as error:
            read.append((type(error), error.message))
            break
    return [*read, reader.done]


def filled(frame: bytes, told: bytes, padding: bytes) -> bytes:
    return frame.replace(b"@", told).replace(b"#", padding)


@pytest.mark.parametrize("dialect", TEXTS)
@given(data=st.data())
def test_it_reads_what_the_reader_reads(dialect: Dialect, data: st.DataObject) -> None:
    texts = st.builds(filled, st.sampled_from(TEXTS[dialect][:2]), st.sampled_from(TOLD[:4]), st.sampled_from(PADDING[:4]))
    any_texts = st.builds(filled, st.sampled_from(TEXTS[dialect]), st.sampled_from(TOLD), st.sampled_from(PADDING))
    frames = data.draw(st.lists(texts | any_texts | st.sampled_from(OTHERS), max_size=12))
    codec = codec_of(dialect)
    assert reads(GlancingReader(codec.stream_reader()), frames) == reads(codec.stream_reader(), frames)


DIALECTS = [dialect for dialect in get_args(Dialect) if dialect not in NO_CONVERSATION]
some_deltas: st.SearchStrategy[list[Delta]] = st.lists(
    st.builds(TextDelta, st.sampled_from([" token", "你好", 'a "b"\n\n', "\u2028", "\x00"]))
    | st.builds(ReasoningDelta, st.sampled_from(["so", " then"]))
    | st.builds(ToolCallStarted, st.just(0), st.just("call_1"), st.just("look")),
    max_size=10,
    unique_by=lambda delta: type(delta) is ToolCallStarted or object(),
)


def call_of(dialect: Dialect) -> Call:
    return Call(dialect, "the-model", b"{}", stream=True, wants_usage=True)


@pytest.mark.parametrize("client", DIALECTS)
@pytest.mark.parametrize("provider", DIALECTS)
@given(data=st.data())
def test_the_client_gets_what_reading_each_frame_would_give_it(provider: Dialect, client: Dialect, data: st.DataObject) -> None:
    said = [Started("abc", "m", 1), TextDelta("It is"), *data.draw(some_deltas), Finished("stop"), Used(Usage(input=3, output=4))]
    writer = codec_of(provider).stream_writer(HEAD, call_of(provider))
    stream = writer.write(said) + writer.end()
    read = codec_of(provider).stream_reader().feed(stream)
    expected = codec_of(client).stream_writer(HEAD, call_of(client))
    relay = TranslatingRelay(codec_of(provider).stream_reader(), codec_of(client).stream_writer(HEAD, call_of(client)))
    got = b"".join([relay.feed(piece) for piece in data.draw(cut(stream))]) + relay.finish()
    assert got == b"".join([expected.write([delta]) for delta in read]) + expected.end()
    relay.keep()
    assert "".join([sent.text for sent in relay.sent if type(sent) is TextDelta]) == "".join(
        [delta.text for delta in read if type(delta) is TextDelta]
    )


@pytest.mark.parametrize("dialect", ["anthropic", "gemini", "openai_responses", "openai_completions"])
@given(data=st.data())
def test_what_passes_is_the_providers_but_for_the_name(dialect: Dialect, data: st.DataObject) -> None:
    codec = codec_of(dialect)
    writer = codec.stream_writer(HEAD, call_of(dialect))
    said = [Started("abc", "m", 1), TextDelta("It is"), *data.draw(some_deltas), Finished("stop")]
    stream = b"".join([writer.write([delta]) for delta in said]) + writer.end()
    relay = PassingRelay(codec, "another")
    got = b"".join([relay.feed(piece) for piece in data.draw(cut(stream))]) + relay.finish()
    assert got == b"".join([codec.renamed(frame, "another") for frame in FrameSplitter.split(stream)])
    assert relay.latest.endswith(codec.renamed(FrameSplitter.split(stream)[-1], "another"))


class Counting:
    """A reader that says how often it was fed."""

    def __init__(self, dialect: Dialect) -> None:
        self._reader = codec_of(dialect).stream_reader()
        self.text_member = self._reader.text_member
        self.done = False
        self.fed = 0

    def feed(self, data: bytes) -> list[Delta]:
        self.fed += 1
        return self._reader.feed(data)

    def finish(self) -> None: ...


@pytest.mark.parametrize("dialect", [dialect for dialect in TEXTS if dialect != "openai_responses"])
def test_text_behind_text_is_not_read(dialect: Dialect) -> None:
    reader = Counting(dialect)
    glancing = GlancingReader(reader)
    for told in (b'"a"', b'"b"', b'"c"', rb'"\n"'):
        glancing.feed(TEXTS[dialect][0].replace(b"@", told))
    together = b"".join([TEXTS[dialect][0].replace(b"@", told) for told in TOLD[:4]])
    assert glancing.texts_of(together) == codec_of(dialect).stream_reader().feed(together)[-4:]
    assert glancing.texts_of(together + TEXTS[dialect][0].replace(b"@", b'\n"a"')) is None
    assert glancing.texts_of(together[:-1]) is None
    begins = 2 if dialect != "anthropic" else 1  # the first frame says also that the answer begins
    assert reader.fed == begins


def test_padding_is_not_read() -> None:
    frame = TEXTS["openai_chat"][1]
    reader = Counting("openai_chat")
    glancing = GlancingReader(reader)
    for _ in range(2):  # the first frame says also that the answer begins
        glancing.feed(filled(frame, b'"a"', b'"x"'))
    together = b"".join([filled(frame, told, padding) for told, padding in zip(TOLD[:4], PADDING[:4], strict=True)])
    assert glancing.texts_of(together) == codec_of("openai_chat").stream_reader().feed(together)[-4:]
    assert glancing.texts_of(filled(frame, b'"a"', b'"x"y"')) is None
    assert glancing.texts_of(filled(frame, b'"a"', b"null")) is None
    assert reader.fed == 2


def test_frames_that_are_all_different_are_soon_no_longer_learnt() -> None:
    frame = b'data: {"n":%d,"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    reader = Counting("openai_chat")
    glancing = GlancingReader(reader)
    for number in range(UNLIKE_MAX):
        glancing.feed(frame % number)
    glancing.feed(frame % UNLIKE_MAX)
    last = glancing.texts_of(frame % UNLIKE_MAX)
    assert last is not None  # it begins anew where one is known
    for number in range(UNLIKE_MAX + 1):
        glancing.feed(frame % number)
    assert glancing.texts_of(frame % UNLIKE_MAX) is None
