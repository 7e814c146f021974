"""Signatures of thoughts: good where they were made, and nowhere else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.simulator.thoughts import is_signed, signature_of


@given(st.text())
def test_a_signature_holds_for_its_text_and_without_one(text: str) -> None:
    signature = signature_of(text, "anthropic")
    assert is_signed(signature, text, "anthropic")
    assert is_signed(signature, "", "anthropic")
    assert not is_signed(signature, f"{text}.", "anthropic")
    assert not is_signed(signature, text, "gemini")


@given(st.binary(max_size=40))
def test_nothing_else_is_one(data: bytes) -> None:
    assert not is_signed(base64.b64encode(data).decode(), "", "anthropic")


@given(st.integers(0, 31), st.integers(1, 255))
def test_no_byte_can_be_changed(position: int, change: int) -> None:
    made = bytearray(base64.b64decode(signature_of("I think", "gemini")))
    made[position] ^= change
    assert not is_signed(base64.b64encode(made).decode(), "", "gemini")


@pytest.mark.parametrize("signature", ["", "%", "ü", "agw^openai_chat:x"])
def test_what_is_no_base64_is_no_signature(signature: str) -> None:
    assert not is_signed(signature, "", "anthropic")


def test_the_alphabet_for_urls_is_read_too() -> None:
    made = next(one for number in range(100) if {"+", "/"} <= set(one := signature_of(str(number), "gemini")))
    assert is_signed(base64.urlsafe_b64encode(base64.b64decode(made)).decode(), "", "gemini")
