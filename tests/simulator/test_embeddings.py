"""Vectors: of length one, equal for equal texts, near for texts that share words."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.simulator.embeddings import vector


@given(st.text(max_size=60), st.integers(1, 300))
def test_every_vector_is_of_length_one(text: str, dimensions: int) -> None:
    made = vector(text, dimensions)
    assert len(made) == dimensions
    assert math.hypot(*made) == pytest.approx(1)
    assert made == vector(text, dimensions)


def near(one: str, other: str) -> float:
    return sum([mine * theirs for mine, theirs in zip(vector(one, 1536), vector(other, 1536), strict=True)])


def test_shared_words_make_texts_near() -> None:
    cat = "the cat sat on the mat"
    assert near(cat, "the cat lay on the mat") > near(cat, "the dog lay on the sofa") > near(cat, "quarterly revenue rose again")
    assert near(cat, "quarterly revenue rose again") == pytest.approx(0, abs=0.15)


def test_another_order_of_words_is_near_but_not_the_same() -> None:
    assert 0.9 < near("dog bites man", "man bites dog") < 1
