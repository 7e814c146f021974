"""The model's name in frames and answers that are passed on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.protocols.base import codec_of
from agent_gateway.protocols.gemini.codec import Gemini
from tests.protocols.gemini.test_reader import ANSWER, EVENTS, sse


def test_it_has_its_seat() -> None:
    assert isinstance(codec_of("gemini"), Gemini)


@pytest.mark.parametrize(
    "data",
    [
        ANSWER,
        sse(EVENTS[0]),
        b'data: {"modelVersion":"gemini-2.5-flash","candidates":[{"content":{"parts":[{"text":"}"}]}}]}\n\n',
        b'{"modelVersion" : "gemini-2.5-flash", "usageMetadata": {"a": [1]}, "more": {"modelVersion": "x"}}',
    ],
)
def test_the_client_s_name_of_the_model_is_all_that_changes(data: bytes) -> None:
    assert Gemini().renamed(data, "my/gpt") == data.replace(b'"gemini-2.5-flash"', b'"my/gpt"')


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b": comment\n\n",
        b'data: {"candidates":[{"modelVersion":"x"}]}\n\n',
        b'{"candidates":[{"content":{"parts":[{"text":"\\"modelVersion\\": \\"x\\"}"}]}}]}',
        b'{"text":"modelVersion"}',
    ],
)
def test_what_only_looks_like_it_stays(data: bytes) -> None:
    assert Gemini().renamed(data, "my/gpt") == data


@given(st.text(max_size=30))
def test_any_text_stays_as_it_is(text: str) -> None:
    event = EVENTS[1] | {"candidates": [{"content": {"parts": [{"text": text}]}}]}
    renamed = sse(event | {"modelVersion": "new"})
    assert Gemini().renamed(sse(event), "new") == renamed
