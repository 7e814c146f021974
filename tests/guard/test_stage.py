"""A whole exchange through the stage, without a socket: any split of any stream gives the same client text, in every protocol."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_gateway.control.load import compile_mapping
from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.core.delta import (
    ArgumentsDelta,
    Delta,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallStarted,
    Used,
)
from agent_gateway.core.errors import GatewayError, GuardFailed, GuardRefused, ProviderFault
from agent_gateway.core.event import Chunk, Event, Failure, Whole
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.route import Deployment, Route
from agent_gateway.core.usage import Usage
from agent_gateway.guard.answer import JUDGED_MAX_CHARS
from agent_gateway.guard.base import Tools
from agent_gateway.guard.stage import APART_BYTES, Guarded, Guards
from agent_gateway.protocols.base import AnswerHead, codec_of
from agent_gateway.protocols.fold import fold
from agent_gateway.protocols.transcript import take_answer
from agent_gateway.wire.sse import FrameSplitter

MAIL, CARD, AWS = "ann@example.com", "4111 1111 1111 1111", "AKIAIOSFODNN7EXAMPLE"
WEBHOOK = {"kind": "webhook", "url": "http://127.0.0.1:9/"}
HEAD = AnswerHead("abc", 1, "m")
BODIES: dict[Dialect, Any] = {
    "openai_chat": {"model": "m", "messages": [{"role": "user", "content": f"{MAIL}, {CARD}"}]},
    "openai_responses": {"model": "m", "input": f"{MAIL}, {CARD}"},
    "anthropic": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": f"{MAIL}, {CARD}"}]},
    "gemini": {"contents": [{"parts": [{"text": f"{MAIL}, {CARD}"}]}]},
    "openai_completions": {"model": "m", "prompt": f"{MAIL}, {CARD}"},
}
every_dialect = pytest.mark.parametrize("dialect", BODIES)
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
PATH = "/v1beta/models/m:streamGenerateContent?alt=sse"


async def secret() -> bytes:
    return bytes(32)


async def allowing(url: str, body: bytes, headers: Any, timeout_s: float) -> tuple[int, bytes]:
    return 200, b'{"action":"allow"}'


def route(**guards: Any) -> Route:
    model = {"deployments": [{"provider": "s", "model": "m", "price": {"input": 0, "output": 0}}]}
    return compile_mapping({"providers": {"s": {"kind": "simulated"}}, "models": {"m": model}, "guards": guards}).routes["m"]


def exchange_of(dialect: Dialect, body: Any = None, **call: Any) -> Exchange:
    data = msgspec.json.encode(BODIES[dialect] if body is None else body)
    made = msgspec.structs.replace(codec_of(dialect).read_call(data, {}, PATH), **call)
    return Exchange(id="req_abc", call=made, started=0.0, started_wall=1.0, deadline=SYSTEM_CLOCK.monotonic() + 60)


async def begun(exchange: Exchange, made: Route, tools: Tools | None = None) -> Guarded:
    guarded = await Guards(secret, tools or Tools(allowing, SYSTEM_CLOCK)).check(exchange, made)
    assert guarded is not None
    return guarded


async def events_of(guarded: Guarded, events: Sequence[Event]) -> list[Event]:
    async def answer() -> AsyncGenerator[Event, None]:
        for event in events:
            yield event

    return [event async for event in guarded.watch(answer())]


def written(dialect: Dialect, deltas: Sequence[Delta], call: Call) -> list[bytes]:
    """The frames of a stream, as the client would get them without guards."""
    writer = codec_of(dialect).stream_writer(HEAD, call)
    return [frame for delta in deltas for frame in FrameSplitter.split(writer.write([delta]))] + FrameSplitter.split(writer.end())


def told(dialect: Dialect, frames: bytes) -> Any:
    reader = codec_of(dialect).stream_reader()
    deltas = reader.feed(frames)
    reader.finish()
    return [(choice.index, choice.parts, choice.finish_reason) for choice in fold(deltas).choices]


def pieces(text: str, places: Sequence[int]) -> list[str]:
    bounds = [0, *sorted({place % (len(text) + 1) for place in places}), len(text)]
    return [text[start:end] for start, end in pairwise(bounds) if start < end]


def an_answer(places: Sequence[int], known: Sequence[str], choices: int = 1) -> list[Delta]:
    """Text, a tool call and more text of each choice, cut at `places`; what it says holds what the request hid, and a key."""
    mail, card = known
    text = f"Dear {mail.upper()}: {card}! Use {AWS}, not {mail.strip('<>')}."
    arguments = msgspec.json.encode({"to": mail, "text": f'"{card}"\n{AWS}', "n": [1, 2.5]}).decode()
    deltas: list[Delta] = [Started("x", "m")]
    parts = [[TextDelta(piece, choice) for piece in pieces(text, places)] for choice in range(choices)]
    deltas += [delta for together in zip(*parts, strict=True) for delta in together]
    for choice in range(choices):
        deltas.append(ToolCallStarted(0, f"call_{choice}", "send", choice))
        deltas += [ArgumentsDelta(0, piece, choice) for piece in pieces(arguments, places)]
        deltas.append(Finished("tool_calls", choice))
    return [*deltas, Used(Usage(input=1, output=2))]


def hidden(exchange: Exchange) -> list[str]:
    """The placeholders that were sent, in order."""
    return re.findall("<[A-Z]+_[a-z2-7]{10}>", exchange.call.body.decode())


GUARDS = route(input=[{"kind": "pii"}], output=[{"kind": "secrets"}])


@every_dialect
@settings(deadline=None, max_examples=40)
@given(places=st.lists(st.integers(0, 300), max_size=20), grouped=st.integers(1, 9))
def test_any_split_of_a_stream_gives_the_same(dialect: Dialect, places: list[int], grouped: int) -> None:
    async def run(cut: Sequence[int], together: int) -> Any:
        exchange = exchange_of(dialect, stream=True)
        guarded = await begun(exchange, GUARDS)
        assert MAIL.encode() not in exchange.call.body
        deltas = an_answer(cut, hidden(exchange), choices=2 if dialect == "openai_chat" else 1)
        if dialect == "openai_completions":
            deltas = [delta for delta in deltas if not isinstance(delta, ToolCallStarted | ArgumentsDelta)]
        frames = written(dialect, deltas, exchange.call)
        chunks = [Chunk(b"".join(frames[start : start + together])) for start in range(0, len(frames), together)]
        events = await events_of(guarded, chunks)
        assert all(isinstance(event, Chunk) for event in events)
        return told(dialect, b"".join(event.data for event in events if isinstance(event, Chunk)))

    whole = asyncio.run(run([], 1000))
    assert asyncio.run(run(places, grouped)) == whole
    said = msgspec.json.encode(whole).decode()
    assert MAIL in said
    assert CARD in said
    assert AWS not in said
    assert "<EMAIL_" not in said
    assert "<AWSKEY_" in said


@every_dialect
async def test_a_whole_answer_says_what_the_stream_says(dialect: Dialect) -> None:
    exchange = exchange_of(dialect)
    guarded = await begun(exchange, GUARDS)
    deltas = [delta for delta in an_answer([], hidden(exchange)) if not isinstance(delta, ToolCallStarted | ArgumentsDelta)]
    body = codec_of(dialect).write_answer(HEAD, deltas, exchange.call)
    (event,) = await events_of(guarded, [Whole(body)])
    assert isinstance(event, Whole)
    text = fold(codec_of(dialect).read_answer(event.body)).choices[0].text
    assert text.startswith(f"Dear {MAIL}: {CARD}! Use <AWSKEY_")
    assert text.endswith(f">, not {MAIL}.")
    assert exchange.guards == (("pii", "mask"), ("secrets", "mask"))
    kept = take_answer(exchange)
    assert kept is not None
    assert kept.content is not None
    assert MAIL not in kept.content
    assert "<AWSKEY_" in kept.content


@every_dialect
async def test_an_answer_in_which_nothing_is_found_is_the_providers_own(dialect: Dialect) -> None:
    exchange = exchange_of(dialect)
    guarded = await begun(exchange, GUARDS)
    body = codec_of(dialect).write_answer(HEAD, [Started(), TextDelta("Hello."), Finished("stop")], exchange.call) + b"  "
    assert await events_of(guarded, [Whole(body)]) == [Whole(body)]


async def test_what_needs_no_look_is_not_looked_at() -> None:
    exchange = exchange_of("openai_chat", {"model": "m", "messages": [{"role": "user", "content": "Hello."}]})
    exchange.tap = lambda data: True
    guarded = await begun(exchange, route(input=[{"kind": "pii"}]))

    async def answer() -> AsyncGenerator[Event, None]:
        yield Chunk(b"")

    generator = answer()
    assert guarded.watch(generator) is generator
    assert exchange.tap is not None
    await generator.aclose()
    assert await Guards(secret, Tools(allowing, SYSTEM_CLOCK)).check(exchange, Route(name="m", deployments=())) is None


async def test_order_is_kept_and_thoughts_are_not_changed() -> None:
    exchange = exchange_of("anthropic", stream=True)
    guarded = await begun(exchange, GUARDS)
    mail, _ = hidden(exchange)
    deltas: list[Delta] = [
        Started("x", "m"),
        ReasoningDelta(f"I think of {mail} and {AWS}", origin="anthropic"),
        ReasoningDelta("", signature="sig", origin="anthropic"),
        TextDelta("First "),
        TextDelta(mail[:5]),
        ToolCallStarted(0, "call_0", "send"),
        ArgumentsDelta(0, "{}"),
        Finished("tool_calls"),
    ]
    events = await events_of(guarded, [Chunk(b"".join(written("anthropic", deltas, exchange.call)))])
    ((_, parts, _),) = told("anthropic", b"".join(event.data for event in events if isinstance(event, Chunk)))
    assert [type(part).__name__ for part in parts] == ["Reasoning", "Text", "ToolUse"]
    assert (parts[0].text, parts[0].signature) == (f"I think of {mail} and {AWS}", "sig")
    assert parts[1].text == f"First {mail[:5]}"


async def test_parallel_tool_calls_have_their_own_hold_back() -> None:
    exchange = exchange_of("openai_chat", stream=True)
    guarded = await begun(exchange, GUARDS)
    mail, card = hidden(exchange)
    texts = [f'{{"a": "{mail}"}}', f'{{"b": "{card}"}}']
    deltas: list[Delta] = [Started("x", "m"), ToolCallStarted(0, "c0", "f"), ToolCallStarted(1, "c1", "f")]
    longest = max(map(len, texts))
    deltas += [ArgumentsDelta(index, text[place]) for place in range(longest) for index, text in enumerate(texts) if place < len(text)]
    frames = written("openai_chat", [*deltas, Finished("tool_calls")], exchange.call)
    events = await events_of(guarded, [Chunk(frame) for frame in frames])
    ((_, parts, _),) = told("openai_chat", b"".join(event.data for event in events if isinstance(event, Chunk)))
    assert [part.arguments for part in parts] == [f'{{"a": "{MAIL}"}}', f'{{"b": "{CARD}"}}']


@pytest.mark.parametrize("kind", [TextDelta, RefusalDelta, ReasoningDelta])
async def test_a_block_ends_a_stream_wherever_it_is_said(kind: Any) -> None:
    exchange = exchange_of("openai_chat", stream=True)
    guarded = await begun(exchange, route(output=[{"kind": "deny", "words": ["project zeta"]}]))
    deltas = [Started("x", "m"), *[kind(piece) for piece in ("Of our ", "Pro", "ject ", "Zeta", " we say nothing")], Finished("stop")]
    events = await events_of(guarded, [Chunk(frame) for frame in written("openai_chat", deltas, exchange.call)])
    *chunks, last = events
    assert isinstance(last, Failure)
    assert isinstance(last.error, GuardRefused)
    sent = b"".join(event.data for event in chunks if isinstance(event, Chunk))
    assert b"Of our" in sent
    assert b"Pro" not in sent
    assert b"[DONE]" not in sent


async def test_a_stream_that_breaks_off_loses_what_was_held_and_nothing_else() -> None:
    exchange = exchange_of("openai_chat", stream=True)
    guarded = await begun(exchange, GUARDS)
    frames = written("openai_chat", [Started("x", "m"), TextDelta("So far so good, AKIAIOS")], exchange.call)
    broken = Failure(ProviderFault("It broke."))
    events = await events_of(guarded, [*[Chunk(frame) for frame in frames[:-1]], broken])
    assert events[-1] is broken
    sent = b"".join(event.data for event in events if isinstance(event, Chunk))
    assert b"So far so good, " in sent
    assert b"AKIA" not in sent


async def test_a_gemini_array_stays_one() -> None:
    exchange = exchange_of("gemini", stream=True, framing="json_array")
    guarded = await begun(exchange, GUARDS)
    deltas: list[Delta] = [Started("x", "m"), *[TextDelta(letter) for letter in f"to {hidden(exchange)[0]}: {AWS}."], Finished("stop")]
    writer = codec_of("gemini").stream_writer(HEAD, exchange.call)
    parts = [writer.write([delta]) for delta in deltas] + [writer.end()]
    events = await events_of(guarded, [Chunk(part) for part in parts if part])
    array = msgspec.json.decode(b"".join(event.data for event in events if isinstance(event, Chunk)))
    text = "".join(part["text"] for element in array for part in element["candidates"][0]["content"]["parts"] if "text" in part)
    assert text.startswith(f"to {MAIL}: <AWSKEY_")


def test_without_guards_nothing_of_it_is_loaded(tmp_path: Path) -> None:
    program = (
        "import sys, os; from agent_gateway.app import Gateway; from agent_gateway.control.load import compile_mapping;"
        "Gateway(compile_mapping({'providers': {'s': {'kind': 'simulated'}}, 'state': {'database': 'sqlite:///:memory:'}}));"
        "print([name for name in sys.modules if name.startswith(('agent_gateway.guard.', 're2', 'jsonschema'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['agent_gateway.guard.base']"


async def test_a_long_body_is_taken_apart_beside_the_event_loop() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    exchange = exchange_of("openai_chat", {"model": "m", "messages": [{"role": "user", "content": [{}] * APART_BYTES}]})
    task = asyncio.create_task(others())
    await begun(exchange, GUARDS)
    task.cancel()
    assert turns > 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("check", [{"kind": "size", "max_chars": 3 * JUDGED_MAX_CHARS}, {"kind": "size", "max_chars": 5, "action": "flag"}])
async def test_an_answer_is_not_refused_by_what_lets_it_pass(check: dict[str, Any], stream: bool) -> None:
    exchange = exchange_of("openai_chat", stream=stream)
    guarded = await begun(exchange, route(output=[check]))
    deltas: list[Delta] = [Started("x", "m"), TextDelta("a" * (JUDGED_MAX_CHARS + 1)), TextDelta("b"), Finished("stop")]
    frames = written("openai_chat", deltas, exchange.call)
    answer = [Chunk(frame) for frame in frames] if stream else [Whole(codec_of("openai_chat").write_answer(HEAD, deltas, exchange.call))]
    events = await events_of(guarded, answer)
    assert not any(isinstance(event, Failure) for event in events)
    assert exchange.guards == ((("size", "flag"),) if "action" in check else ())


async def test_an_answer_that_is_held_is_refused_beyond_the_bound() -> None:
    exchange = exchange_of("openai_chat", stream=True)
    guarded = await begun(exchange, route(output=[{"kind": "size", "max_chars": 3 * JUDGED_MAX_CHARS}, WEBHOOK]))
    deltas: list[Delta] = [Started("x", "m"), TextDelta("a" * (JUDGED_MAX_CHARS + 1)), Finished("stop")]
    with pytest.raises(GuardRefused):
        await events_of(guarded, [Chunk(frame) for frame in written("openai_chat", deltas, exchange.call)])


async def test_what_a_request_was_refused_for_is_hidden_in_its_thoughts_as_well() -> None:
    thinking = {"type": "thinking", "thinking": f"It is {AWS}.", "signature": "s"}
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [thinking]}, {"role": "user", "content": "And?"}]
    exchange = exchange_of("anthropic", {"model": "m", "max_tokens": 9, "messages": messages})
    with pytest.raises(GuardRefused):
        await begun(exchange, route(input=[{"kind": "secrets", "action": "block"}]))
    assert AWS.encode() not in exchange.call.body


# --- sessions ---------------------------------------------------------------------------------------------------------


async def test_what_a_session_adds_is_masked_for_every_deployment() -> None:
    exchange = exchange_of("openai_chat")
    memory = {"role": "user", "content": f"earlier: {CARD}"}
    new = BODIES["openai_chat"]["messages"][0]

    def fit(deployment: Deployment) -> Call:
        remembered = [] if deployment.context_window else [memory]
        return msgspec.structs.replace(exchange_of("openai_chat", {"model": "m", "messages": [*remembered, new]}).call)

    exchange.fit = fit
    await begun(exchange, route(input=[{"kind": "pii"}, {"kind": "size", "max_chars": 300}]))
    large, small = (exchange.fit(Deployment("", "", "", context_window=window)).body for window in (None, 10))
    for body in (large, small, exchange.call.body):
        assert CARD.encode() not in body
        assert MAIL.encode() not in body
    assert small in (exchange.call.body,)
    other = exchange_of("openai_chat")
    other.fit = fit
    with pytest.raises(GuardRefused):
        await begun(other, route(input=[{"kind": "size", "max_chars": 40}]))


async def test_owners_have_placeholders_of_their_own() -> None:
    bodies = []
    for user in ("ann", "ann", "bob"):
        exchange = exchange_of("openai_chat", user=user)
        await begun(exchange, GUARDS)
        bodies.append(exchange.call.body)
    assert bodies[0] == bodies[1]
    assert hidden_in(bodies[0]).isdisjoint(hidden_in(bodies[2]))


def hidden_in(body: bytes) -> set[str]:
    return {word.strip('",') for word in body.decode().replace("<", " <").replace(">", "> ").split() if word.startswith("<")}


# --- a check that fails -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError("no route"), TimeoutError(), ProviderFault("no")])
async def test_a_webhook_without_an_answer(error: BaseException) -> None:
    async def failing(url: str, body: bytes, headers: Any, timeout_s: float) -> tuple[int, bytes]:
        raise error

    tools = Tools(failing, SYSTEM_CLOCK)
    check = {"kind": "webhook", "url": "http://127.0.0.1:9/"}
    exchange = exchange_of("openai_chat")
    with pytest.raises(GuardFailed) as failed:
        await begun(exchange, route(input=[check]), tools)
    assert isinstance(failed.value, GatewayError)
    assert exchange.guards == (("webhook", "failed"),)
    exchange = exchange_of("openai_chat")
    await begun(exchange, route(input=[check | {"on_failure": "open"}]), tools)
    assert exchange.guards == (("webhook", "failed"),)


@pytest.mark.parametrize(("url", "warned"), [("http://checks.example/", True), ("https://checks.example/", False), (WEBHOOK["url"], False)])
def test_a_webhook_that_is_asked_unencrypted_is_warned_of(url: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    made = route(input=[{"kind": "webhook", "url": url}])
    Guards(secret, Tools(allowing, SYSTEM_CLOCK)).prepare(made.guards)
    assert ("webhook sends what is said to checks.example unencrypted" in caplog.text) is warned


async def test_a_webhook_has_no_more_time_than_the_request() -> None:
    given_s: list[float] = []

    async def patient(url: str, body: bytes, headers: Any, timeout_s: float) -> tuple[int, bytes]:
        given_s.append(timeout_s)
        return 200, b'{"action":"flag"}'

    made = route(input=[{"kind": "webhook", "url": "http://127.0.0.1:9/", "timeout_s": 50}])
    exchange = exchange_of("openai_chat")
    exchange.deadline = SYSTEM_CLOCK.monotonic() + 5
    await begun(exchange, made, Tools(patient, SYSTEM_CLOCK))
    assert 0 < given_s[0] <= 5
    assert exchange.guards == (("webhook", "flag"),)
    exchange = exchange_of("openai_chat")
    exchange.deadline = SYSTEM_CLOCK.monotonic() - 1
    with pytest.raises(GuardFailed):
        await begun(exchange, made, Tools(patient, SYSTEM_CLOCK))
    assert len(given_s) == 1


async def test_a_secret_that_cannot_be_had_lets_nothing_through() -> None:
    async def down() -> bytes:
        raise GuardFailed("no store")

    exchange = exchange_of("openai_chat")
    with pytest.raises(GatewayError):
        await Guards(down, Tools(allowing, SYSTEM_CLOCK)).check(exchange, GUARDS)
    assert exchange.call.body == b""  # nor into the record


async def test_a_request_that_is_not_checked_to_its_end_is_recorded_masked() -> None:
    async def failing(url: str, body: bytes, headers: Any, timeout_s: float) -> tuple[int, bytes]:
        raise OSError("no route")

    exchange = exchange_of("openai_chat")
    checks = [{"kind": "pii"}, {"kind": "webhook", "url": "http://127.0.0.1:9/"}]
    with pytest.raises(GuardFailed):
        await begun(exchange, route(input=checks), Tools(failing, SYSTEM_CLOCK))
    assert b"<EMAIL_" in exchange.call.body
    assert MAIL.encode() not in exchange.call.body
