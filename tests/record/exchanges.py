"""Exchanges as the pipeline hands them to the recorder, for tests that look at what is made of them."""

from __future__ import annotations

from itertools import count
from typing import Any

import msgspec

from agent_gateway.core.call import Call
from agent_gateway.core.errors import GatewayError
from agent_gateway.core.exchange import Attempt, Exchange
from agent_gateway.core.pricing import Price
from agent_gateway.core.usage import Usage
from agent_gateway.record.row import Record, make_record
from agent_gateway.stores.base import Key

PRICE = Price(input=1.0, output=2.0)
USAGE = Usage(input=30, output=12)
REQUEST = b'{"model":"chat","messages":[{"role":"user","content":"Who are you, and what can you do?"}]}'
#: Unix time of the first request (s).
WALL = 1_760_000_000.0

_numbers = count(1)


def chunk(text: str) -> bytes:
    return b'data: {"id":"c","choices":[{"index":0,"delta":{"content":%b}}]}\n\n' % msgspec.json.encode(text)


def whole(text: str) -> bytes:
    body = b'{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":%b},"finish_reason":"stop"}]}'
    return body % msgspec.json.encode(text)


FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def attempt(started: float = 10.001, ended: float = 10.5, outcome: str = "success", **fields: Any) -> Attempt:
    made = Attempt("local/small", started, outcome=outcome, ended=ended, price=PRICE)
    if outcome == "success":
        made.connected, made.first_byte, made.first_token = started + 0.001, started + 0.1, started + 0.1
        made.provider_status = 200
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def exchange(
    *,
    answer: list[bytes] | None = None,
    stream: bool = False,
    error: GatewayError | None = None,
    attempts: list[Attempt] | None = None,
    usage: Usage | None = USAGE,
    **fields: Any,
) -> Exchange:
    """Answered by `local/small` in half a second, unless told otherwise; its id is new."""
    number = next(_numbers)
    call = Call("openai_chat", "chat", REQUEST, stream, user="user-7")
    made = Exchange(f"req_{number:08}", call, 10.0, WALL + number / 1000, "theirs", Key("key-1", "test"), "session-9")
    made.attempts = [attempt()] if attempts is None else attempts
    said = [chunk("Hello"), chunk(" there"), FINISH] if stream else [whole("Hello there")]
    sent = said if answer is None else answer
    made.answer += sent
    made.answer_bytes = sum(map(len, sent))
    if any(one.outcome == "success" for one in made.attempts):
        made.status, made.deployment, made.usage = "success", "local/small", usage
    if made.attempts:
        made.first_token = made.attempts[-1].first_token
    for name, value in fields.items():
        setattr(made, name, value)
    made.end(error, 10.501)
    return made


def records(how_many: int, **fields: Any) -> list[Record]:
    return [make_record(exchange(), "full")._replace(**fields) for _ in range(how_many)]
