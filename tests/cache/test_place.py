"""What makes two requests the same: everything that the answer depends on, and whose they are."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.cache import place
from agent_gateway.cache.base import Place
from agent_gateway.cache.place import APART_BYTES, place_of, user_digest
from agent_gateway.core.call import Call
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.route import Deployment, Route
from agent_gateway.stores.base import Key
from tests.cache.exchanges import DEPLOYMENT, new_exchange, route_of

ADDRESSES = {"p": "openai http://one"}


async def place_with(exchange: Exchange | None = None, route: Route | None = None, addresses: dict[str, str] = ADDRESSES) -> Place:
    return await place_of(exchange or new_exchange(), route or route_of(), addresses)


async def test_the_same_request_has_the_same_place() -> None:
    other = new_exchange(wait_s=99)
    other.client_request_id, other.edge, other.started_wall = "mine", "batch", 99.0
    assert await place_with() == await place_with(other)


@pytest.mark.parametrize(
    "differing",
    [
        {"key": Key("bob", "Bob")},
        {"key": None},
        {"user": "ann"},
        {"stream": True},
        {"temperature": 0.5},
        {"messages": [{"role": "user", "content": "Hi "}]},
        {"user_": "said in the body"},
        {"x_unknown": 1},
        {"model": "other"},
        {"headers": {"anthropic-beta": "x"}},
        {"headers": {"openai-beta": "x"}},
        {"headers": {"anthropic-version": "2023-06-01"}},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"dialect": "openai_completions", "prompt": "Hi"},
    ],
    ids=str,
)
async def test_what_matters_makes_another(differing: dict[str, Any]) -> None:
    assert await place_with(new_exchange(**differing)) != await place_with()


async def test_where_a_request_is_on_a_trace_does_not_matter() -> None:
    traced = new_exchange(headers={"traceparent": "00-1-2-01", "tracestate": "a=b"})
    assert await place_with(traced) == await place_with()


@pytest.mark.parametrize(
    "route",
    [
        route_of(Deployment(id="p/other", provider="p", model="other")),
        route_of(Deployment(id="p/m", provider="p", model="m", default={"temperature": 0})),
        route_of(Deployment(id="p/m", provider="p", model="m", override={"max_tokens": 9})),
        route_of(DEPLOYMENT, Deployment(id="q/m", provider="q", model="m")),
        route_of(ttl_s=61),
    ],
)
async def test_so_does_another_configuration(route: Route) -> None:
    assert await place_with(route=route) != await place_with()


async def test_so_does_another_server_under_the_same_name() -> None:
    assert await place_with(addresses={"p": "openai http://two"}) != await place_with()


async def test_parameters_in_another_order_are_the_same() -> None:
    one = route_of(Deployment(id="p/m", provider="p", model="m", default={"a": 1, "b": {"c": 2, "d": 3}}))
    other = route_of(Deployment(id="p/m", provider="p", model="m", default={"b": {"d": 3, "c": 2}, "a": 1}))
    assert await place_with(route=one) == await place_with(route=other)


async def test_what_a_session_puts_in_front_counts() -> None:
    def remembering(*before: str) -> Exchange:
        exchange = new_exchange()
        body = msgspec.json.encode({"model": "m", "messages": [*before, "Hi"]})
        exchange.fit = lambda deployment: msgspec.structs.replace(exchange.call, body=body)
        return exchange

    places = [await place_with(remembering(*before)) for before in ((), ("a",), ("a", "b"))]
    assert len(set(places)) == 3
    assert await place_with(remembering("a")) == places[1]


async def test_a_gemini_request_is_known_by_its_path_too() -> None:
    def of(path: str) -> Exchange:
        return new_exchange("gemini", path=path, contents=[{"parts": [{"text": "Hi"}]}])

    paths = [
        "/v1beta/models/a:generateContent",
        "/v1beta/models/b:generateContent",
        "/v1beta/models/a:streamGenerateContent",
        "/v1beta/models/a:streamGenerateContent?alt=sse",
    ]
    assert len({await place_with(of(path)) for path in paths}) == len(paths)


@given(st.lists(st.tuples(*[st.text(max_size=3)] * 3, st.binary(max_size=6)), min_size=2, max_size=2, unique=True))
def test_nothing_can_be_moved_from_one_field_into_another(asked: list[tuple[str, str, str, bytes]]) -> None:
    """Neither between key and user nor between the head and the body."""

    async def compare() -> None:
        places = set()
        for key, user, model, body in asked:
            exchange = new_exchange(key=Key(key, ""))
            exchange.call = Call("openai_chat", model, body, user=user)
            places.add(await place_with(exchange))
        assert len(places) == 2

    asyncio.run(compare())


async def test_a_long_body_is_hashed_beside_the_loop_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = new_exchange(x="y" * (APART_BYTES + 1))
    apart = await place_with(exchange)
    monkeypatch.setattr(place, "APART_BYTES", 10**9)
    assert await place_with(exchange) == apart


async def test_a_place_says_nothing_of_whose_it_is() -> None:
    exchange = new_exchange(user="ann@example.com", messages=[{"role": "user", "content": "a secret"}])
    made = await place_with(exchange)
    assert made.user == user_digest("ann@example.com")
    assert all(set(text) <= set("0123456789abcdef") for text in made)
    assert user_digest("\ud800") != user_digest("?"), "any name that JSON can hold"
