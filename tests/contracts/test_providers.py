"""What every provider promises (`upstream/base.py`): those over HTTP on real sockets, with bytes as their providers send them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import monotonic
from typing import Any, get_args

import msgspec
import pytest
import pytest_asyncio
from anthropic.types import ErrorResponse, Message, MessageTokensCount, RawMessageStreamEvent
from google.genai.types import GenerateContentResponse
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from agent_gateway.core.call import Call, Dialect
from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.core.errors import (
    ContentFiltered,
    ContextTooLong,
    NotExpressible,
    ProviderError,
    ProviderFault,
    ProviderKeyRefused,
    ProviderModelMissing,
    ProviderRateLimited,
    ProviderRefusedRequest,
)
from agent_gateway.core.exchange import Attempt
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.failure import REFUSED
from agent_gateway.upstream.base import PROVIDERS, Answer, Provider
from agent_gateway.upstream.transport import Transport
from tests.kit.provider import Heard, ScriptedProvider
from tests.kit.recordings import Recording, recording, recordings

DIALECTS: tuple[Dialect, ...] = get_args(Dialect)
CONVERSATIONS = set(DIALECTS) - {"openai_embeddings", "anthropic_count"}
#: Those that are called over HTTP; the simulated one is in this process (tests/upstream/test_simulated.py).
OVER_HTTP = [kind for kind in PROVIDERS.table if kind != "simulated"]
KEY = "key-one"
BODY = '{"any": "body", "byte": "for byte", "ü": 1}'.encode()
PLENTY_S = 20.0


@dataclass(frozen=True)
class Spoken:
    """One protocol of one provider: a good reply, where the call goes, how the key is shown there, and who parses the reply."""

    kind: str
    dialect: Dialect
    reply: str
    target: str
    key: tuple[str, str]
    oracle: Any

    @property
    def recording(self) -> Recording:
        return recording(f"{self.kind}/{self.reply}")

    @property
    def stream(self) -> bool:
        return self.recording.is_stream


def _openai(dialect: Dialect, reply: str, path: str, oracle: Any) -> Spoken:
    return Spoken("openai", dialect, reply, path, ("authorization", f"Bearer {KEY}"), oracle)


def _anthropic(dialect: Dialect, reply: str, path: str, oracle: Any) -> Spoken:
    return Spoken("anthropic", dialect, reply, path, ("x-api-key", KEY), oracle)


def _gemini(reply: str, method: str) -> Spoken:
    target = f"/v1beta/models/gemini-2.5-flash%2Fx:{method}"
    return Spoken("gemini", "gemini", reply, target, ("x-goog-api-key", KEY), GenerateContentResponse)


SPOKEN = [
    _openai("openai_chat", "chat", "/chat/completions", ChatCompletion),
    _openai("openai_chat", "chat_stream", "/chat/completions", ChatCompletionChunk),
    _openai("openai_completions", "completions", "/completions", Completion),
    _openai("openai_embeddings", "embeddings", "/embeddings", CreateEmbeddingResponse),
    _openai("openai_responses", "responses", "/responses", Response),
    _openai("openai_responses", "responses_stream", "/responses", ResponseStreamEvent),
    _anthropic("anthropic", "messages", "/v1/messages", Message),
    _anthropic("anthropic", "messages_stream", "/v1/messages", RawMessageStreamEvent),
    _anthropic("anthropic_count", "count", "/v1/messages/count_tokens", MessageTokensCount),
    _gemini("generate", "generateContent"),
    _gemini("generate_stream", "streamGenerateContent?alt=sse"),
    Spoken(
        "gemini",
        "openai_embeddings",
        "embeddings",
        "/v1beta/openai/embeddings",
        ("authorization", f"Bearer {KEY}"),
        CreateEmbeddingResponse,
    ),
]
#: The class of each refusal, and how long the provider wants to be left alone (s).
REFUSALS: dict[str, tuple[type[ProviderError], float | None]] = {
    "openai/refused": (ProviderRefusedRequest, None),
    "openai/context_too_long": (ContextTooLong, None),
    "openai/content_filter": (ContentFiltered, None),
    "openai/key_refused": (ProviderKeyRefused, None),
    "openai/no_credit": (ProviderKeyRefused, None),
    "openai/model_missing": (ProviderModelMissing, None),
    "openai/rate_limited": (ProviderRateLimited, 72),
    "openai/overloaded": (ProviderFault, 3),
    "anthropic/refused": (ProviderRefusedRequest, None),
    "anthropic/too_large": (ProviderRefusedRequest, None),
    "anthropic/key_refused": (ProviderKeyRefused, None),
    "anthropic/no_credit": (ProviderKeyRefused, None),
    "anthropic/not_permitted": (ProviderKeyRefused, None),
    "anthropic/model_missing": (ProviderModelMissing, None),
    "anthropic/rate_limited": (ProviderRateLimited, 21),
    "anthropic/failed": (ProviderFault, None),
    "anthropic/overloaded": (ProviderFault, None),
    "gemini/refused": (ProviderRefusedRequest, None),
    "gemini/key_refused": (ProviderKeyRefused, None),
    "gemini/key_refused_for_embeddings": (ProviderKeyRefused, None),
    "gemini/not_permitted": (ProviderKeyRefused, None),
    "gemini/model_missing": (ProviderModelMissing, None),
    "gemini/rate_limited": (ProviderRateLimited, 34.074824224),
    "gemini/unavailable": (ProviderFault, None),
}
#: An error's body with status 200, where a stream was asked for.
UNDER_200: dict[str, type[ProviderError]] = {
    "openai/error_for_a_stream": ProviderFault,
    "anthropic/error_for_a_stream": ProviderFault,
    "gemini/error_for_a_stream": ProviderRateLimited,
}
#: Of each kind, the protocol that its refusals are told in.
OWN: dict[str, Dialect] = {"openai": "openai_chat", "anthropic": "anthropic", "gemini": "gemini"}

every_spoken = pytest.mark.parametrize("spoken", SPOKEN, ids=lambda spoken: f"{spoken.kind}-{spoken.reply}")
every_stream = pytest.mark.parametrize("spoken", [item for item in SPOKEN if item.stream], ids=lambda spoken: str(spoken.reply))
every_kind = pytest.mark.parametrize("kind", OVER_HTTP)


def call(dialect: Dialect, *, stream: bool = False, headers: dict[str, str] | None = None) -> Call:
    return Call(dialect, "model", BODY, stream=stream, forward_headers=headers or {})


class Stage:
    """One provider with its scripted other side."""

    def __init__(self, server: ScriptedProvider, transport: Transport) -> None:
        self.server = server
        self.transport = transport
        self.attempt = Attempt("p/m", monotonic())
        self.deployment = Deployment("p/m", "p", "gemini-2.5-flash/x")

    def provider(self, kind: str, *keys: str) -> Provider:
        plugin: type[Provider] = PROVIDERS.load(kind)
        settings = plugin.Settings(base_url=f"http://127.0.0.1:{self.server.port}", api_keys=keys)
        return plugin(settings, self.transport, SYSTEM_CLOCK)

    async def send(self, provider: Provider, sent: Call) -> Answer:
        until = monotonic() + PLENTY_S
        return await provider.send(
            sent, self.deployment, self.attempt, dialect=sent.dialect, body=BODY, connect_until=until, until=until
        )

    async def speak(self, spoken: Spoken, headers: dict[str, str] | None = None) -> Heard:
        """A good exchange; what the provider heard of it."""
        self.server.reply(spoken.recording.script())
        answer = await self.send(self.provider(spoken.kind, KEY), call(spoken.dialect, stream=spoken.stream, headers=headers))
        await (_all_of(answer) if spoken.stream else answer.read(monotonic() + PLENTY_S))
        return self.server.last


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    transport = Transport(environ={})
    async with ScriptedProvider() as server:
        yield Stage(server, transport)
        await transport.close()


async def _all_of(answer: Answer) -> bytes:
    pieces = []
    while piece := await answer.next(monotonic() + PLENTY_S):
        pieces.append(piece)
    return b"".join(pieces)


# --- the recordings ---------------------------------------------------------------------------------------------------


@every_kind
def test_every_plug_in_is_recorded_and_every_recording_is_used(kind: str) -> None:
    used = {item.reply for item in SPOKEN if item.kind == kind}
    used |= {name.partition("/")[2] for name in (*REFUSALS, *UNDER_200) if name.startswith(f"{kind}/")}
    assert used == set(recordings(kind))
    assert kind in OWN


@every_spoken
def test_a_recording_is_what_the_providers_own_library_reads(spoken: Spoken) -> None:
    parse = TypeAdapter(spoken.oracle).validate_json
    recorded = spoken.recording
    for payload in recorded.payloads if spoken.stream else [recorded.body]:
        if payload != b'{"type":"ping"}':  # which the library reads past before it parses
            parse(payload)


@pytest.mark.parametrize("name", [name for name in REFUSALS if name.startswith("anthropic/") and name != "anthropic/too_large"])
def test_a_recorded_error_is_what_the_providers_own_library_reads(name: str) -> None:
    assert ErrorResponse.model_validate_json(recording(name).body).error.type


# --- there ------------------------------------------------------------------------------------------------------------


@every_spoken
async def test_the_call_goes_where_its_protocol_is_spoken(stage: Stage, spoken: Spoken) -> None:
    heard = await stage.speak(spoken)
    assert (heard.method, heard.target, heard.body) == ("POST", spoken.target, BODY)
    name, value = spoken.key
    assert heard.headers[name] == value
    assert sum(KEY in shown for shown in heard.headers.values()) == 1
    assert heard.headers["content-type"] == "application/json"
    assert heard.headers["accept-encoding"] == "identity", "answers are read as they come"
    assert heard.headers["host"] == f"127.0.0.1:{stage.server.port}"


@every_kind
async def test_without_a_key_none_is_shown(stage: Stage, kind: str) -> None:
    good = next(item for item in SPOKEN if item.kind == kind and not item.stream)
    stage.server.reply(good.recording.script())
    answer = await stage.send(stage.provider(kind), call(good.dialect))
    await answer.read(monotonic() + PLENTY_S)
    assert not {"authorization", "x-api-key", "x-goog-api-key", "api-key"} & stage.server.last.headers.keys()


@every_spoken
async def test_what_of_the_clients_headers_goes_on_arrives_once(stage: Stage, spoken: Spoken) -> None:
    headers = {"traceparent": "00-1-2-01", "anthropic-version": "2024-01-01", "anthropic-beta": "files-api-2025-04-14"}
    heard = await stage.speak(spoken, headers)
    assert headers.items() <= heard.headers.items(), "a header that is sent twice would be both values"


@every_spoken
async def test_the_attempt_knows_its_times_and_status(stage: Stage, spoken: Spoken) -> None:
    await stage.speak(spoken)
    attempt = stage.attempt
    assert attempt.provider_status == 200
    assert attempt.connected is not None
    assert attempt.first_byte is not None
    assert attempt.started <= attempt.connected <= attempt.first_byte <= monotonic()


# --- and back ---------------------------------------------------------------------------------------------------------


@every_spoken
@pytest.mark.parametrize("chunk_bytes", [None, 1, 7, 100_000])
async def test_the_answer_comes_byte_for_byte_however_it_is_cut(stage: Stage, spoken: Spoken, chunk_bytes: int | None) -> None:
    recorded = spoken.recording
    stage.server.reply(recorded.script(chunk_bytes=chunk_bytes))
    answer = await stage.send(stage.provider(spoken.kind, KEY), call(spoken.dialect, stream=spoken.stream))
    came = await (_all_of(answer) if spoken.stream else answer.read(monotonic() + PLENTY_S))
    assert came == recorded.body
    answer.close()


@every_stream
async def test_a_stream_that_is_closed_stops_the_providers_work(stage: Stage, spoken: Spoken) -> None:
    recorded = spoken.recording

    async def endless(peer: Any) -> None:
        await peer.send(recorded.head + b"\r\ntransfer-encoding: chunked\r\n\r\n")
        await peer.forever()

    stage.server.reply(endless)
    answer = await stage.send(stage.provider(spoken.kind, KEY), call(spoken.dialect, stream=True))
    answer.close()
    answer.close()
    await stage.server.last.hung_up.wait()


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_has_its_class(stage: Stage, name: str) -> None:
    kind, _, reply = name.partition("/")
    expected, wait_s = REFUSALS[name]
    recorded = recording(name)
    stage.server.reply(recorded.script())
    dialect: Dialect = "openai_embeddings" if reply.endswith("_for_embeddings") else OWN[kind]
    with pytest.raises(ProviderError) as caught:
        await stage.send(stage.provider(kind, KEY), call(dialect))
    error = caught.value
    assert type(error) is expected
    assert error.provider_status == stage.attempt.provider_status == recorded.status
    assert error.retry_after_s == (None if wait_s is None else pytest.approx(wait_s))
    if isinstance(error, ProviderRefusedRequest):
        assert (error.dialect, error.body, error.shown_status) == (dialect, recorded.body, recorded.status)
        assert error.message == f"{REFUSED}: {msgspec.json.decode(recorded.body)['error']['message']}"
        assert error.passed_on, "a client of the same protocol gets the provider's own words"


@pytest.mark.parametrize("name", UNDER_200)
async def test_an_error_that_comes_in_a_streams_place_is_an_error(stage: Stage, name: str) -> None:
    kind, _, _ = name.partition("/")
    stage.server.reply(recording(name).script())
    with pytest.raises(UNDER_200[name]) as caught:
        await stage.send(stage.provider(kind, KEY), call(OWN[kind], stream=True))
    assert type(caught.value) is UNDER_200[name]


@every_kind
async def test_another_key_is_shown_where_one_is_refused(stage: Stage, kind: str) -> None:
    good = next(item for item in SPOKEN if item.kind == kind and not item.stream)
    stage.server.reply_in_turn(recording(f"{kind}/key_refused").script(), good.recording.script(), good.recording.script())
    provider = stage.provider(kind, "revoked", KEY)
    for _ in range(2):
        answer = await stage.send(provider, call(good.dialect))
        assert await answer.read(monotonic() + PLENTY_S) == good.recording.body
    shown = [next(value for value in heard.headers.values() if "revoked" in value or KEY in value) for heard in stage.server.heard]
    assert [KEY in value for value in shown] == [False, True, True]


# --- what it speaks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("kind", PROVIDERS.table)
def test_every_call_is_spoken_or_cannot_be(kind: str, dialect: Dialect) -> None:
    plugin: type[Provider] = PROVIDERS.load(kind)
    provider = plugin(plugin.Settings(), Transport(environ={}), SYSTEM_CLOCK)
    deployment = Deployment("p/m", "p", "m")
    try:
        spoken = provider.speaks(call(dialect), deployment)
    except NotExpressible:
        assert dialect not in CONVERSATIONS, "any conversation can be asked of any provider, translated"
        return
    assert spoken in DIALECTS
    if dialect not in CONVERSATIONS:
        assert spoken == dialect, "what is no conversation is not translated"
    assert provider.speaks(call(spoken), deployment) == spoken, "what it speaks it speaks to all"


@pytest.mark.parametrize("kind", PROVIDERS.table)
def test_settings_are_its_own_and_strict(kind: str) -> None:
    plugin: type[Provider] = PROVIDERS.load(kind)
    assert msgspec.convert({"kind": kind}, plugin.Settings) == plugin.Settings()
    with pytest.raises(msgspec.ValidationError, match="no_such_setting"):
        msgspec.convert({"kind": kind, "no_such_setting": 1}, plugin.Settings)


@every_kind
def test_settings_never_show_a_key(kind: str) -> None:
    settings = PROVIDERS.load(kind).Settings(api_keys=("secret-one", "secret-two"))
    assert "secret" not in repr(settings)
    assert "keys=2" in repr(settings)
