"""Which answers are given again, and what the exchange that gets one tells of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent_gateway.cache.replay import entry_of, replayed
from agent_gateway.core.call import Keeping
from agent_gateway.core.event import Chunk, Whole
from agent_gateway.core.exchange import Attempt
from agent_gateway.core.usage import Usage
from agent_gateway.protocols.transcript import Answer, Content
from tests.cache.exchanges import new_exchange, succeed

BODY = b'{"id":"chatcmpl-1"}'


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "function_call", "end_turn"])
def test_a_natural_end_is_one(reason: str) -> None:
    exchange = new_exchange()
    succeed(exchange, finish_reason=reason)
    entry = entry_of(exchange, BODY)
    assert entry is not None
    assert (entry.body, entry.deployment, entry.cost_usd, entry.usage) == (BODY, "p/m", 0.25, Usage(input=3, output=5))


@pytest.mark.parametrize("reason", ["length", "content_filter", "refusal", "error", "", None])
def test_any_other_is_not(reason: str | None) -> None:
    exchange = new_exchange()
    succeed(exchange)
    exchange.transcript = Answer("Hello", finish_reason=reason)
    assert entry_of(exchange, BODY) is None


def test_each_choice_has_to_end_so() -> None:
    exchange = new_exchange(n=2)
    succeed(exchange)
    exchange.transcript = Answer("a", finish_reason="stop", choices=[Content("b", finish_reason="length")])
    assert entry_of(exchange, BODY) is None
    exchange.transcript = Answer("a", finish_reason="stop", choices=[Content("b", finish_reason="stop")])
    assert entry_of(exchange, BODY) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "fallback"},
        {"status": "degraded"},
        {"status": None},
        {"reason": "recovered"},
        {"reason": "quality"},
        {"status": "fallback", "reason": "provider_timeout"},
        {"deployment": None},
    ],
    ids=str,
)
def test_only_the_models_own_whole_word_is_kept(fields: dict[str, Any]) -> None:
    exchange = new_exchange()
    succeed(exchange)
    for name, value in fields.items():
        setattr(exchange, name, value)
    assert entry_of(exchange, BODY) is None


def test_what_it_had_cost_is_what_the_answer_cost_not_what_failed_before_it() -> None:
    exchange = new_exchange()
    exchange.attempts.append(Attempt("p/m", 0.0, outcome="provider_error", cost_usd=7.0))
    succeed(exchange)
    entry = entry_of(exchange, BODY)
    assert entry is not None
    assert entry.cost_usd == 0.25


def test_embeddings_have_no_end_to_look_for() -> None:
    exchange = new_exchange("openai_embeddings", input="Hi")
    succeed(exchange)
    exchange.transcript = None
    entry = entry_of(exchange, b'{"data":[]}')
    assert entry is not None
    again = new_exchange("openai_embeddings", input="Hi")
    assert replayed(again, entry, 5.0) == Whole(b'{"data":[]}')
    assert (again.status, again.transcript, again.first_token) == ("cached", None, None)


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_has_an_id_of_its_own(stream: bool) -> None:
    frames = b'data: {"response":{"id": "resp_old","x":"resp_old!"}}\n\ndata: {"response":{"id":"resp_old"},"item":{"id":"msg_1"}}\n\n'
    body = frames if stream else b'{"output":[{"id":"msg_1"}],"id":"resp_old"}'
    exchange = new_exchange("openai_responses", input="Hi", stream=stream)
    succeed(exchange)
    entry = entry_of(exchange, body)
    assert entry is not None
    again = new_exchange("openai_responses", input="Hi", stream=stream)
    assert again.call.keeping == Keeping()
    event = replayed(again, entry, 5.0)
    told = event.data if isinstance(event, Chunk) else event.body
    new = again.id.replace("req_", "resp_").encode()
    assert told == body.replace(b'"resp_old"', b'"%b"' % new)
    assert b'"resp_old!"' in told or not stream


def test_the_record_of_who_gets_it_again_has_all_of_it() -> None:
    exchange = new_exchange()
    succeed(exchange)
    exchange.transcript = told = Answer("Hi", reasoning="Hm", finish_reason="stop", choices=[Content("b", finish_reason="stop")])
    entry = entry_of(exchange, BODY)
    assert entry is not None
    again = new_exchange()
    replayed(again, entry, 0.0)
    assert msgspec.json.encode(again.transcript) == msgspec.json.encode(told)
