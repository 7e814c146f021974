"""Whatever a client sends to a parser of ours, it is read or refused in words; and both protocols understand the same bytes alike."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, get_args
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_gateway.app import Gateway
from agent_gateway.core.call import Dialect
from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.core.errors import GatewayError
from agent_gateway.core.settings import Server
from agent_gateway.edge.app import _last_values
from agent_gateway.edge.hosts import check_host, same_origin
from agent_gateway.edge.request import check_framing, check_media, new_exchange, read_head, read_into
from agent_gateway.edge.responses import stream_of_response
from agent_gateway.edge.resumable import events_seen
from agent_gateway.edge.routes import dialect_of
from agent_gateway.edge.sessions import session_list, session_object
from agent_gateway.edge.websocket_frames import NotAFrame, NotReadable, read
from agent_gateway.protocols.base import load_codecs
from agent_gateway.stores.base import Owner, open_store
from tests.edge.conftest import ADMIN_KEY, served
from tests.kit.attacks import ANSWERED, REFUSED
from tests.kit.client import chat_request, connect, request

load_codecs()


def _plain(value: Any) -> bytes:
    """As JSON; what msgspec does not write (lone surrogates, integers beyond 64 bits) is left to the standard library."""
    return json.dumps(value).encode()


#: Members that the protocols know.
_KEYS = [
    "model", "messages", "role", "content", "type", "text", "name", "id", "input", "instructions", "prompt",
    "system", "stream", "tools", "tool_calls", "function", "arguments", "tool_call_id", "tool_choice", "parameters",
    "max_tokens", "contents", "parts", "user", "functionCall", "functionResponse", "inlineData", "data", "mimeType",
    "generationConfig", "metadata", "session_id", "image_url", "url", "previous_response_id", "conversation",
    "response_format", "json_schema", "thinking", "source", "media_type", "stop", "n", "store",
]
_texts = st.text(max_size=20) | st.sampled_from(["user", "assistant", "system", "text", "tool", "chat", "auto", "data:image/png;base64,"])
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_KEYS) | st.text(max_size=5), inner, max_size=6),
    max_leaves=30,
).map(_plain)
_bodies = st.binary(max_size=200) | st.dictionaries(st.sampled_from(_KEYS), _json, max_size=8).map(
    lambda members: b"{%b}" % b",".join([b'"%b":%b' % (name.encode(), value) for name, value in ({"model": b'"chat"'} | members).items()])
)
_NAMES = (
    b"authorization x-api-key host origin content-type transfer-encoding content-length x-session-id x-user-id x-gateway-timeout-s "
    b"x-request-id last-event-id x-gateway-resumable traceparent"
).split()
_headers = st.dictionaries(st.sampled_from(_NAMES), st.binary(max_size=40))
_urls = st.sampled_from(["", "/v1beta/models/chat:generateContent", "/v1/models/a%ffb:streamGenerateContent?alt=sse"])
ours = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


@contextmanager
def _refused_in_words() -> Iterator[None]:
    try:
        yield
    except GatewayError as error:
        if not 400 <= error.status < 500:
            raise


@pytest.mark.parametrize("dialect", get_args(Dialect))
@ours
@given(body=_bodies, headers=_headers, url=_urls)
def test_a_request_of_any_protocol(dialect: Dialect, body: bytes, headers: dict[bytes, bytes], url: str) -> None:
    head = read_head(headers)
    exchange = new_exchange(head, SYSTEM_CLOCK, dialect)
    same_origin(headers.get(b"origin"), headers.get(b"host"))
    with _refused_in_words():
        check_framing(list(headers.items()), headers)
    with _refused_in_words():
        check_host(Server(), headers.get(b"host"))
    with _refused_in_words():
        check_media(headers)
    with _refused_in_words():
        read_into(exchange, head, body, url)
        assert exchange.call.model


@ours
@given(query=st.binary(max_size=100) | st.text(max_size=60).map(str.encode), headers=_headers, path=st.text(max_size=40))
def test_a_query_and_the_number_of_an_event(query: bytes, headers: dict[bytes, bytes], path: str) -> None:
    with _refused_in_words():
        _last_values(query)
    with _refused_in_words():
        events_seen(headers, query)
    with _refused_in_words():
        stream_of_response(f"/v1/responses/{path}", query)
    dialect_of(path.encode())


@ours
@given(message=st.binary(max_size=100) | _json)
def test_a_frame_of_a_websocket(message: bytes) -> None:
    with suppress(NotReadable, NotAFrame):
        read(message)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(cursor=st.text(max_size=40), session=st.text(max_size=40), limit=st.text(max_size=6))
def test_a_cursor_and_the_id_of_a_session(cursor: str, session: str, limit: str) -> None:
    asyncio.run(_look(cursor, session, limit))


async def _look(cursor: str, session: str, limit: str) -> None:
    store = open_store("sqlite:///:memory:")
    query = urlencode({"cursor": cursor, "limit": limit}).encode()
    try:
        with _refused_in_words():
            await session_list(store, Owner(), query, 0.0)
        with _refused_in_words():
            await session_object(store, Owner("", ""), session, 0.0)
    finally:
        await store.close()


# --- both protocols ---

_LINES = (b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", b"\r\n\r\n")
_PIECES = (b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"0", b"\0", b"\xff", b";", b",", *_LINES)
_PROBE = request("GET", "/health/live", headers={"connection": "close"})
SPOILT = 400


def _spoilt(chance: random.Random) -> bytes:
    """A request in which one to three places were changed."""
    plain = chat_request(headers={"authorization": f"Bearer {ADMIN_KEY}"})
    seeds = [plain, *(data for data, _ in ANSWERED.values() if len(data) < 2000), *REFUSED.values()]
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data))
        match chance.randrange(3):
            case 0:
                data[at:at] = chance.choice(_PIECES)
            case 1:
                del data[at : at + chance.randint(1, 4)]
            case _:
                data[at] = chance.randrange(256)
    return bytes(data)


def _alike(one: list[int], other: list[int]) -> bool:
    known = min(len(one), len(other))  # after a refusal one may close where the other goes on
    return one[:known] == other[:known] and (known > 0 or one == other)


async def _statuses(url: str, data: bytes) -> list[int]:
    statuses = []
    async with connect(url) as wire:
        try:
            await wire.send(data + _PROBE)
            while True:
                statuses.append((await wire.reply()).status)
        except (asyncio.IncompleteReadError, ConnectionError):
            return statuses


@pytest.mark.parametrize("gateway", [{"ttft_ms": 0}], indirect=True)
async def test_both_protocols_understand_the_same(gateway: Gateway) -> None:
    limits = replace(gateway.limits, head_timeout_s=0.3, body_timeout_s=0.3, linger_s=0.1, keep_alive_s=0.5)
    chance = random.Random(7)
    samples = [_spoilt(chance) for _ in range(SPOILT)]
    async with served(gateway, limits, fast=True) as fast, served(gateway, limits, fast=False) as slow:
        for start in range(0, SPOILT, 50):
            batch = samples[start : start + 50]
            both = await asyncio.gather(*(_statuses(url, data) for data in batch for url in (fast, slow)))
            for data, one, other in zip(batch, both[::2], both[1::2], strict=True):
                if not _alike(one, other):  # a hundred at once may be too many for the short times: by themselves they are not
                    one, other = [await _statuses(url, data) for url in (fast, slow)]
                assert _alike(one, other), (data, one, other)
                assert all(status < 500 for status in one + other), data
