"""Every fault × (whole, streamed) × (fallback up, all down), over real sockets: what the client sees, in what time, after how many
calls, and what is recorded. Nothing hangs, no cut stream ends as complete, no chain makes more calls than it may.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import ssl
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trustme

from agent_gateway.core.settings import FIXED_REPLY
from tests.kit import chains, replies, samples
from tests.kit.chains import (
    TIMEOUTS,
    TOTAL_S,
    Scripts,
    backup_of,
    chain,
    configuration,
    gateway_says,
    last_word_ms,
    names,
    outcomes,
    recorded,
    text_of,
)
from tests.kit.chains import at_provider as at
from tests.kit.client import CHAT, Reply, ask, chat, chat_request, connect
from tests.kit.faults import AFTER_CONTENT, BEFORE_CONTENT, BEGUN, OVERSIZE, UNARY, Fault
from tests.kit.gateway import EdgeName, Gateway
from tests.kit.ports import free_port
from tests.kit.provider import Script, ScriptedProvider

#: The noise of a busy machine (s); with it every cell stays below the request's deadline.
NOISE_S = 8.0
#: The longest pause before the one repeat, where the provider asked for none (s).
BACKOFF_S = 0.25
#: From the last failure to the fixed reply (ms): far less than one more attempt would take.
LAST_WORD_MS = 4000
#: The waits of all but those that a fault is to run out of: however busy the machine is, what is there is waited for.
PATIENT = {"timeouts": {**dict.fromkeys(TIMEOUTS, NOISE_S), "total_s": TOTAL_S}}
MAX_ATTEMPTS = 3
TABLES = {"unary": UNARY, "before": BEFORE_CONTENT, "after": AFTER_CONTENT}
WORDS = ["fall", "back"]
GOOD = {False: replies.whole(samples.COMPLETION), True: replies.stream(samples.text_frames(WORDS, usage=True))}


def _model(table: str, fault: str, case: str) -> str:
    """The chain of one cell."""
    return "-".join([table, re.sub(r"[ ,]+", "-", fault), case])


def _chains() -> Iterator[dict[str, Any]]:
    for table, faults in TABLES.items():
        for name, fault in faults.items():
            up, down, bare = (_model(table, name, case) for case in ("up", "down", "bare"))
            waits = bool(fault.lasts_s)
            yield _patient(chain(up, fault.provider), but=[up] * waits)
            yield _patient(chain(down, fault.provider, fault.provider), but=[down, backup_of(down)] * waits)
            yield _patient(chain(bare, fault.provider, fault.provider, fallback={"reply": None}), but=[bare, backup_of(bare)] * waits)
    for case in ("unary", "stream"):
        yield _patient(chain(f"strict-{case}"))
        yield _patient(chain(f"flapping-{case}-up"))
        yield _patient(chain(f"flapping-{case}-down"))
        yield _patient(chain(f"limited-{case}"))
        yield _patient(chain(f"big-{case}"))
    yield _patient(chain("secured", "secured"))
    yield _patient(chain("oversize"))


def _patient(models: dict[str, Any], but: Sequence[str] = ()) -> dict[str, Any]:
    return {name: model if name in but else model | PATIENT for name, model in models.items()}


streaming = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])


# --- the stage --------------------------------------------------------------------------------------------------------


class Certificates:
    """One authority that the gateway trusts, one that it does not."""

    def __init__(self) -> None:
        self.trusted = trustme.CA()
        self.server = {
            "secured": _server(self.trusted.issue_cert("127.0.0.1")),
            "misnamed": _server(self.trusted.issue_cert("other.test")),
            "untrusted": _server(trustme.CA().issue_cert("127.0.0.1")),
        }
        self.ports = {name: free_port() for name in self.server}


def _server(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


@pytest.fixture(scope="module")
def running(
    edge: EdgeName, provider_port: int, closed_port: int, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """One gateway an edge for all cells."""
    folder = tmp_path_factory.mktemp("faults")
    trusted = folder / "trusted.pem"
    certificates.trusted.cert_pem.write_to_path(str(trusted))
    urls = {
        "scripted": f"http://127.0.0.1:{provider_port}/v1",
        "closed": f"http://127.0.0.1:{closed_port}/v1",
        "unknown": "http://name.invalid:8080/v1",
        **{name: f"https://127.0.0.1:{port}/v1" for name, port in certificates.ports.items()},
    }
    config = configuration(urls, names(_chains()))
    with chains.running(folder, edge, config, {"SSL_CERT_FILE": str(trusted), "NO_PROXY": "*"}) as gateway:
        yield gateway


@pytest.fixture
async def secured(certificates: Certificates) -> AsyncIterator[dict[str, ScriptedProvider]]:
    """Those that are reached, or not, over TLS."""
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(ScriptedProvider(certificates.ports[name], tls))
            for name, tls in certificates.server.items()
        }


async def _timed(gateway: Gateway, model: str, within_s: float, *, stream: bool, **more: Any) -> Reply:
    began = time.monotonic()
    reply = await ask(gateway.url, CHAT, chat(model, stream=stream, **more))
    assert time.monotonic() - began < within_s
    assert reply.complete
    assert b"secret" not in reply.body
    return reply


def _good_text(*, stream: bool) -> str:
    return "".join(WORDS) if stream else samples.TEXT


def _all_down_s(fault: Fault) -> float:
    """Below the request's own deadline, which must not be what ended it."""
    return fault.calls * fault.lasts_s + max(fault.pause_s, BACKOFF_S) + NOISE_S


# --- before the client has anything -----------------------------------------------------------------------------------


async def _falls_back(gateway: Gateway, scripts: Scripts, model: str, fault: Fault, *, stream: bool) -> None:
    scripts.play(fault.script, model)
    scripts.play(GOOD[stream], backup_of(model))
    reply = await _timed(gateway, model, fault.lasts_s + NOISE_S, stream=stream)
    assert (reply.status, *gateway_says(reply)) == (200, "fallback", fault.code, "2")
    assert reply.headers["x-gateway-model"] == f"scripted/{at(backup_of(model))}"
    assert text_of(reply, stream=stream) == _good_text(stream=stream)
    assert (len(scripts.heard(model)), len(scripts.heard(backup_of(model)))) == (int(fault.heard), 1)
    record = await recorded(gateway, reply)
    assert (record["status"], record["http_status"], record["error_code"], record["reason"]) == ("fallback", 200, None, fault.code)
    assert record["deployment"] == f"scripted/{at(backup_of(model))}"
    assert outcomes(record) == [fault.code, "success"]
    assert record["attempts"][0].get("provider_status") == fault.provider_status
    assert ("connected_ms" in record["attempts"][0]) == fault.heard
    assert (record["input_tokens"], record["output_tokens"]) == (19, 10)


async def _gets_the_fixed_reply(gateway: Gateway, scripts: Scripts, model: str, fault: Fault, *, stream: bool) -> None:
    scripts.play(fault.script, model, backup_of(model))
    reply = await _timed(gateway, model, _all_down_s(fault), stream=stream)
    assert (reply.status, *gateway_says(reply)) == (200, "degraded", fault.code, str(fault.calls))
    assert "x-gateway-model" not in reply.headers
    assert text_of(reply, stream=stream) == FIXED_REPLY
    record = await recorded(gateway, reply)
    assert (record["status"], record["http_status"], record["error_code"], record["reason"]) == ("degraded", 200, None, fault.code)
    assert outcomes(record) == [fault.code] * fault.calls
    assert last_word_ms(record) < LAST_WORD_MS
    assert record["quality"] == 0
    _assert_calls(scripts, model, fault)


async def _gets_the_error(gateway: Gateway, scripts: Scripts, model: str, fault: Fault, *, stream: bool) -> None:
    scripts.play(fault.script, model, backup_of(model))
    reply = await _timed(gateway, model, _all_down_s(fault), stream=stream)
    assert (reply.status, reply.error["code"]) == (fault.status, fault.code)
    assert gateway_says(reply) == (None, fault.code, str(fault.calls))
    assert reply.headers.get("retry-after") == fault.retry_after
    record = await recorded(gateway, reply)
    assert (record["status"], record["http_status"]) == ("error", fault.status)
    assert (record["error_code"], record["reason"]) == (fault.code, fault.code)
    assert outcomes(record) == [fault.code] * fault.calls
    _assert_calls(scripts, model, fault)


def _assert_calls(scripts: Scripts, model: str, fault: Fault) -> None:
    """Both candidates were asked; the one repeat went to either."""
    assert fault.calls <= MAX_ATTEMPTS
    first, second = len(scripts.heard(model)), len(scripts.heard(backup_of(model)))
    if fault.heard:
        assert min(first, second) == 1
        assert first + second == fault.calls
    else:
        assert (first, second) == (0, 0)


async def _cell(model: str, check: Coroutine[None, None, None]) -> None:
    try:
        await check
    except AssertionError as error:
        error.add_note(f"in the cell {model}")
        raise


def _rows() -> list[Any]:
    """Faults that take time are tried side by side, or the suite would be a sum of waits."""
    faults = UNARY | BEFORE_CONTENT
    slow = [name for name, fault in faults.items() if fault.lasts_s or fault.pause_s]
    quick = [pytest.param([name], id=name) for name in faults if name not in slow]
    return [pytest.param(slow, id="all that take time"), *quick]


@pytest.mark.parametrize("faults", _rows())
async def test_before_the_client_has_anything(running: Gateway, scripts: Scripts, secured: object, faults: list[str]) -> None:
    """All cells of a row at once: none of them sees another."""
    async with asyncio.TaskGroup() as cells:
        for table, name in itertools.product(("unary", "before"), faults):
            fault = TABLES[table].get(name)
            if fault is None:
                continue
            for case, check in (("up", _falls_back), ("down", _gets_the_fixed_reply), ("bare", _gets_the_error)):
                model = _model(table, name, case)
                cells.create_task(_cell(model, check(running, scripts, model, fault, stream=table == "before")))


async def test_an_event_over_the_bound(running: Gateway, scripts: Scripts) -> None:
    await _falls_back(running, scripts, "oversize", OVERSIZE, stream=True)


async def test_a_trusted_certificate_is_what_the_others_lack(
    running: Gateway, scripts: Scripts, secured: dict[str, ScriptedProvider]
) -> None:
    secured["secured"].reply(GOOD[False])
    reply = await _timed(running, "secured", NOISE_S, stream=False)
    assert (reply.status, *gateway_says(reply)) == (200, "success", None, "1")


# --- after it has the beginning ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["up", "down"])
@pytest.mark.parametrize("name", list(AFTER_CONTENT))
async def test_a_stream_that_breaks_off_where_none_can_continue_it(running: Gateway, scripts: Scripts, name: str, case: str) -> None:
    """The fallback does not take prefill, so whether it is up makes no difference."""
    fault, model = AFTER_CONTENT[name], _model("after", name, case)
    begun = asyncio.Event()
    scripts.play(replies.stream(BEGUN, then=replies.after(begun, fault.script)), model)
    scripts.play(GOOD[True] if case == "up" else replies.hang, backup_of(model))
    async with connect(running.url) as wire:
        await wire.send(chat_request(model, stream=True))
        head = await wire.head()
        body = await wire.piece()
        begun.set()
        began = time.monotonic()
        body += await wire.pieces()
    assert time.monotonic() - began < fault.lasts_s + NOISE_S
    reply = Reply(head.status, head.headers, body, complete=True)
    assert b"secret" not in body
    assert (reply.status, *gateway_says(reply)) == (200, "success", None, "1")
    *frames, last = reply.frames
    assert b"".join(frames) == samples.renamed(b"".join(BEGUN), model)
    error = samples.read_frame(last)["error"]
    assert set(error) == {"message", "type", "code", "retry_after", "fallback_model"}
    assert (error["code"], error["fallback_model"]) == (fault.code, backup_of(model))
    assert (len(scripts.heard(model)), len(scripts.heard(backup_of(model)))) == (1, 0)
    record = await recorded(running, reply)
    assert (record["status"], record["http_status"], record["error_code"]) == ("error", 200, fault.code)
    assert outcomes(record) == [fault.code]
    assert record["tokens_estimated"]


# --- what is no fault, or not always ----------------------------------------------------------------------------------


def _big_stream(place: int) -> Script:
    words = ["Hel", "lo"]
    words.insert(place, "a" * (10 << 20))
    return replies.stream(samples.text_frames(words, usage=True))


@pytest.mark.parametrize("place", [0, 1, None], ids=["first", "later", "whole"])
async def test_a_chunk_of_10_mb_goes_through(running: Gateway, scripts: Scripts, place: int | None) -> None:
    model = "big-unary" if place is None else "big-stream"
    content = b'"content": "' + b"a" * (10 << 20)
    scripts.play(
        replies.whole(samples.COMPLETION.replace(b'"content": "', content)) if place is None else _big_stream(place), model
    )
    scripts.play(GOOD[place is not None], backup_of(model))
    reply = await _timed(running, model, NOISE_S * 2, stream=place is not None)
    assert (reply.status, *gateway_says(reply)) == (200, "success", None, "1")
    text = text_of(reply, stream=place is not None)
    assert text.count("a" * (10 << 20)) == 1
    assert text.replace("a" * (10 << 20), "") == (samples.TEXT if place is None else "Hello")
    record = await recorded(running, reply)
    assert (record["status"], outcomes(record)) == ("success", ["success"])
    assert record["output_tokens"] == 10


@streaming
async def test_one_that_fails_every_other_call_is_helped_out_for(running: Gateway, scripts: Scripts, stream: bool) -> None:
    model = f"flapping-{'stream' if stream else 'unary'}-up"
    scripts.play(replies.in_turn(replies.whole(b"{}", status=500), GOOD[stream]), model)
    scripts.play(GOOD[stream], backup_of(model))
    said = [gateway_says(await _timed(running, model, NOISE_S, stream=stream)) for _ in range(4)]
    assert said == [("fallback", "provider_error", "2"), ("success", None, "1")] * 2
    assert (len(scripts.heard(model)), len(scripts.heard(backup_of(model)))) == (4, 2)


@streaming
async def test_when_both_fail_every_other_call_the_repeat_answers(running: Gateway, scripts: Scripts, stream: bool) -> None:
    model = f"flapping-{'stream' if stream else 'unary'}-down"
    for name in (model, backup_of(model)):
        scripts.play(replies.in_turn(replies.whole(b"{}", status=500), GOOD[stream]), name)
    reply = await _timed(running, model, BACKOFF_S + NOISE_S, stream=stream)
    assert (reply.status, *gateway_says(reply)) == (200, "success", None, "3")
    assert text_of(reply, stream=stream) == _good_text(stream=stream)
    assert outcomes(await recorded(running, reply)) == ["provider_error", "provider_error", "success"]


@streaming
async def test_a_short_rate_limit_is_waited_for_when_none_is_left(running: Gateway, scripts: Scripts, stream: bool) -> None:
    model = f"limited-{'stream' if stream else 'unary'}"
    limit = replies.whole(b"{}", status=429, headers={"retry-after-ms": "400"})
    for name in (model, backup_of(model)):
        scripts.play(replies.in_turn(limit, GOOD[stream]), name)
    reply = await _timed(running, model, 0.4 + NOISE_S, stream=stream)
    assert (reply.status, *gateway_says(reply)) == (200, "success", None, "3")
    record = await recorded(running, reply)
    assert outcomes(record) == ["provider_rate_limited", "provider_rate_limited", "success"]
    first, _, repeat = record["attempts"]
    assert repeat["started_ms"] - first["ended_ms"] >= 399


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}


@streaming
@pytest.mark.parametrize(
    "asked",
    [
        {"response_format": SCHEMA},
        {"response_format": {"type": "json_object"}},
        {"tools": [TOOL], "tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "look"}}},
    ],
    ids=["schema", "JSON", "some tool", "this tool"],
)
async def test_what_a_text_cannot_stand_in_for_gets_the_error(
    running: Gateway, scripts: Scripts, asked: dict[str, Any], stream: bool
) -> None:
    model = f"strict-{'stream' if stream else 'unary'}"
    scripts.play(replies.whole(b"{}", status=500), model, backup_of(model))
    reply = await _timed(running, model, BACKOFF_S + NOISE_S, stream=stream, **asked)
    assert (reply.status, reply.error["code"]) == (502, "provider_error")
    assert (await recorded(running, reply))["status"] == "error"
