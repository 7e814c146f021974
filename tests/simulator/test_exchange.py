"""What was asked, read within its bound or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from agent_gateway.core.errors import ClientLeft, TooLarge
from agent_gateway.simulator.exchange import Answer, Ask, send_answer

SCOPE = {"method": "POST", "path": "/x", "query_string": b"key=k&alt=media", "headers": [(b"host", b"here:1")], "scheme": "http"}


def ask(*messages: dict[str, Any]) -> Ask:
    left = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(left)

    return Ask(SCOPE, receive)


def piece(body: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_is_read_up_to_its_bound() -> None:
    assert await ask(piece(b"ab", more=True), piece(b"c", more=False)).body(3) == b"abc"
    with pytest.raises(TooLarge, match="over 2 bytes"):
        await ask(piece(b"ab", more=True), piece(b"c", more=False)).body(2)
    with pytest.raises(ClientLeft):
        await ask(piece(b"ab", more=True), {"type": "http.disconnect"}).body(3)


def test_what_an_address_says() -> None:
    asked = ask()
    assert (asked.key, asked.has_google_key, asked.query("alt"), asked.query("none")) == ("k", True, "media", None)
    assert (asked.origin, asked.target) == ("http://here:1", "/x?key=k&alt=media")


async def test_a_large_answer_goes_out_in_pieces() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    body = b"x" * (2 * 1024 * 1024 + 1)
    await send_answer(send, Answer(200, body))
    assert (b"content-length", str(len(body)).encode()) in sent[0]["headers"]
    assert b"".join([message["body"] for message in sent[1:]]) == body
    assert [message.get("more_body", False) for message in sent[1:]] == [True, True, True, False]
