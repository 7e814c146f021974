"""What the model says in words: of exactly the length wanted."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.simulator.prose import prose
from agent_gateway.simulator.tokens import pieces_of_text


@given(st.text(max_size=80), st.integers(1, 600), st.integers(0, 10))
def test_exactly_as_many_pieces_as_wanted(question: str, tokens: int, seed: int) -> None:
    pieces = prose(question, tokens, random.Random(seed))
    assert len(pieces) == tokens
    assert pieces_of_text("".join(pieces)) == pieces


@given(st.integers(2, 600), st.integers(0, 10))
def test_whole_sentences(tokens: int, seed: int) -> None:
    text = "".join(prose("How do I return a parcel?", tokens, random.Random(seed)))
    assert text.endswith(".")
    assert text[0].isupper()
    assert "{" not in text


@given(st.integers(20, 600), st.integers(0, 10))
def test_no_sentence_twice_in_a_row(tokens: int, seed: int) -> None:
    sentences = "".join(prose("", tokens, random.Random(seed))).replace("\n\n", " ").split(". ")
    assert all(one != other for one, other in pairwise(sentences))


def test_words_that_say_nothing_are_no_topic() -> None:
    assert prose("Please explain what this could be", 200, random.Random(1)) == prose("", 200, random.Random(1))
    assert "returns" in "".join(prose("Please explain returns", 200, random.Random(1)))
