"""Sessions whose state is on servers: shared by gateways turn by turn, and through servers that stop, hang and come back in mid-traffic."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx2
import msgspec
import pytest
import uvloop

from tests.journeys.conftest import Launch, one_edge
from tests.kit import replies, samples
from tests.kit.client import CHAT, Reply, chat
from tests.kit.client import ask as ask_raw
from tests.kit.configuration import configuration
from tests.kit.eventually import eventually
from tests.kit.gateway import EDGES, Gateway
from tests.kit.provider import Heard, Script, ScriptedProvider
from tests.kit.sdks import SDKS, Ask, OpenAIChat, OpenAIResponses, Refused, Sdk
from tests.kit.servers import Postgres, Redis, Server, own
from tests.stores.stores import fresh_url

#: "Within seconds": a call to a store that hangs, and some for a busy machine.
SECONDS = 9.0
RESUMABLE = {"x-gateway-resumable": "true"}
WHOLE = replies.whole(samples.COMPLETION)
STREAM = replies.stream(samples.text_frames(["it ", "is"], usage=True))
#: What a turn's answer may have become on its way: the content of a whole one, and of a streamed one.
TEXTS = {False: samples.TEXT, True: "it is"}


def as_asked(heard: Heard) -> Script:
    return STREAM if heard.json.get("stream") else WHOLE


@pytest.fixture
async def url(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    return await fresh_url("postgres", request.config, tmp_path)


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """For a journey that stops it."""
    server = own(Postgres)
    server.start()
    yield server
    server.remove()


@pytest.fixture
def redis() -> Iterator[Redis]:
    server = own(Redis)
    server.start()
    yield server
    server.remove()


def kept(gateway: Gateway, session: str) -> list[Any]:
    answer = httpx2.get(f"{gateway.url}/v1/sessions/{session}")
    assert answer.status_code == 200, answer.text
    return [turn["body"] for turn in answer.json()["turns"]]


async def say(url: str, text: str, session: str = "s") -> Reply:
    return await ask_raw(url, CHAT, chat(messages=[{"role": "user", "content": text}]), headers={"x-session-id": session})


# --- one database, two gateways ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(
    provider_port: int, closed_port: int, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[list[Gateway]]:
    """One of each edge."""
    folders = [tmp_path_factory.mktemp("pair") for _ in EDGES]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        url = runner.run(fresh_url("postgres", pytestconfig, folders[0]))
    config = configuration(provider_port, closed_port, state={"database": url})
    gateways = [Gateway(folder, config, edge) for folder, edge in zip(folders, EDGES, strict=True)]
    try:
        yield [gateway.start() for gateway in gateways]
        for gateway in gateways:
            gateway.assert_log_is_clean()
    finally:
        for gateway in gateways:
            gateway.close()


@pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.name)
async def test_a_session_moves_between_gateways_turn_by_turn(pair: list[Gateway], provider: ScriptedProvider, sdk: type[Sdk]) -> None:
    session = f"moves-{SDKS.index(sdk)}"
    provider.reply_by(as_asked)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client_of(sdk, gateway, session)) for gateway in pair]
        for turn in range(6):
            client = clients[turn % 2]
            client.history = []
            client.user(f"turn {turn}")
            assert (await client.answer(Ask(stream=turn > 2))).text == TEXTS[turn > 2]
            assert numbers(provider.last.body) == list(range(turn + 1))
    assert numbers(msgspec.json.encode(kept(pair[0], session))) == list(range(6))
    assert kept(pair[0], session) == kept(pair[1], session)
    assert len(kept(pair[0], session)) == 12


async def test_turns_at_once_at_two_gateways_take_turns(pair: list[Gateway], provider: ScriptedProvider) -> None:
    provider.reply(WHOLE)
    answers = await asyncio.gather(*(say(pair[turn % 2].url, f"turn {turn}") for turn in range(10)))
    assert {answer.status for answer in answers} == {200}
    assert sorted(numbers(msgspec.json.encode(kept(pair[0], "s")))) == list(range(10))
    assert sorted(len(heard.json["messages"]) for heard in provider.heard) == list(range(1, 21, 2))
    assert (await ask_raw(pair[1].url, "/v1/sessions/s", method="DELETE")).status == 200
    assert (await ask_raw(pair[0].url, "/v1/sessions/s")).status == 404


# --- servers that stop and come back ----------------------------------------------------------------------------------


@dataclass
class Client:
    """Says one thing after the other. `session` None: without one."""

    sdk: Sdk
    session: str | None
    stream: bool
    #: Numbers of the turns that were answered, and of those that were refused, with how.
    answered: list[int] = field(default_factory=list)
    refused: list[tuple[int, int | None, str]] = field(default_factory=list)
    slowest_s: float = 0.0

    async def talk(self, goes_on: Callable[[], bool]) -> None:
        turn = itertools.count()
        while goes_on():
            number, started = next(turn), time.monotonic()
            self.sdk.history = []
            self.sdk.user(f"turn {number}")
            try:
                told = await self.sdk.answer(Ask(stream=self.stream))
                assert told.text == TEXTS[self.stream]
                self.answered.append(number)
            except Refused as refused:
                self.refused.append((number, refused.status, refused.message))
            self.slowest_s = max(self.slowest_s, time.monotonic() - started)


def client_of(sdk: type[Sdk], gateway: Gateway, session: str | None) -> Sdk:
    client = sdk(gateway.url, "chat", "sk-client", {} if session is None else {"x-session-id": session})
    if isinstance(client, OpenAIResponses):
        client.store = True
    return client


def numbers(text: bytes) -> list[int]:
    return [int(number) for number in re.findall(rb"turn (\d+)", text)]


class Traffic:
    """Every protocol, whole and streamed, each in a session of its own; and one client without a session."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.of_sessions: list[Client] = []
        self.without: Client

    async def __aenter__(self) -> Traffic:
        self._stack = AsyncExitStack()
        for sdk, stream in itertools.product(SDKS, (False, True)):
            session = f"{sdk.name}-{stream}".replace(" ", "-")
            self.of_sessions.append(Client(await self._opened(sdk, session), session, stream))
        self.without = Client(await self._opened(OpenAIChat, None), None, False)
        self._goes_on = True
        self._talking = [asyncio.create_task(client.talk(lambda: self._goes_on)) for client in (*self.of_sessions, self.without)]
        return self

    async def _opened(self, sdk: type[Sdk], session: str | None) -> Sdk:
        return await self._stack.enter_async_context(client_of(sdk, self.gateway, session))

    async def __aexit__(self, *exc: object) -> None:
        self._goes_on = False
        await asyncio.gather(*self._talking)
        await self._stack.aclose()

    async def all_answered(self, turns: int = 2) -> None:
        """So many more of each client's."""
        before = {id(client): len(client.answered) for client in (*self.of_sessions, self.without)}
        clients = [*self.of_sessions, self.without]
        await eventually(lambda: all(len(one.answered) >= before[id(one)] + turns for one in clients), "answers to all", 2 * SECONDS)

    async def all_refused(self) -> None:
        await eventually(lambda: all(client.refused for client in self.of_sessions), "refusals of all sessions", 2 * SECONDS)

    def assert_nothing_hung(self) -> None:
        assert max(client.slowest_s for client in (*self.of_sessions, self.without)) < SECONDS
        assert self.without.refused == []

    def assert_refusals_are_told(self) -> None:
        """As 503 in the client's protocol, or where the answer was under way, as its last event."""
        for client in self.of_sessions:
            told = {503, None} if client.stream else {503}
            assert {status for _, status, _ in client.refused} <= told
            assert all("database" in message for _, _, message in client.refused), client.refused


@pytest.fixture
def remembering(postgres: Postgres, provider: ScriptedProvider, launch: Launch) -> Callable[..., Gateway]:
    provider.reply_by(as_asked)

    def start(**sessions: Any) -> Gateway:
        return launch(state={"database": postgres.url()}, sessions=sessions)

    return start


@pytest.mark.parametrize(("how", "edge"), [("stops", "asgi"), ("hangs", "fast lane")], indirect=["edge"])
async def test_postgres_goes_away_in_mid_traffic_and_comes_back(
    remembering: Callable[..., Gateway], postgres: Postgres, how: str
) -> None:
    gateway = remembering()
    async with Traffic(gateway) as traffic:
        await traffic.all_answered()
        await away(postgres, how)
        await traffic.all_refused()
        await back(postgres, how)
        await traffic.all_answered()
    traffic.assert_nothing_hung()
    traffic.assert_refusals_are_told()
    for client in traffic.of_sessions:
        assert client.session is not None
        there = numbers(msgspec.json.encode(kept(gateway, client.session)))
        assert there == sorted(set(there)), "nothing is doubled, and all is in order"
        # Of a refused turn nobody knows whether it was kept: the database may have gone between its doing so and its saying so.
        assert set(client.answered) <= set(there) <= {*client.answered, *(number for number, _, _ in client.refused)}


@one_edge
async def test_without_postgres_sessions_go_on_without_memory_where_that_is_configured(
    remembering: Callable[..., Gateway], postgres: Postgres
) -> None:
    gateway = remembering(on_store_down="forget")
    async with Traffic(gateway) as traffic:
        await traffic.all_answered()
        await away(postgres, "stops")
        await traffic.all_answered(3)
        await back(postgres, "stops")
        await traffic.all_answered()
    traffic.assert_nothing_hung()
    assert [client.refused for client in traffic.of_sessions] == [[]] * len(traffic.of_sessions)
    forgotten = 0
    for client in traffic.of_sessions:
        assert client.session is not None
        there = numbers(msgspec.json.encode(kept(gateway, client.session)))
        assert there == sorted(set(there))
        assert {*client.answered[:2], client.answered[-1]} <= set(there) <= set(client.answered)
        forgotten += len(client.answered) - len(there)
    counted = re.search(r"agent_gateway_sessions_forgotten_total (\d+)", httpx2.get(f"{gateway.url}/metrics").text)
    assert counted is not None
    assert 0 < forgotten <= int(counted[1])


@one_edge
async def test_redis_goes_away_under_streams_of_sessions(launch: Launch, provider: ScriptedProvider, redis: Redis, url: str) -> None:
    """What is shared through Redis alone is refused meanwhile; sessions and their answers notice nothing."""
    pair = [launch(state={"database": url, "redis": redis.url()}) for _ in range(2)]
    provider.reply_by(as_asked)
    turn = itertools.count()

    async def streamed(gateway: Gateway) -> Reply:
        body = chat(stream=True, messages=[{"role": "user", "content": f"turn {next(turn)}"}])
        async with asyncio.timeout(SECONDS):
            reply = await ask_raw(gateway.url, CHAT, body, headers={"x-session-id": "s", **RESUMABLE})
        assert reply.status == 200
        assert samples.DONE.strip() in reply.frames[-1]
        return reply

    async def resumed(reply: Reply) -> Reply:
        async with asyncio.timeout(SECONDS):
            return await ask_raw(pair[1].url, f"/v1/streams/{reply.headers['x-request-id']}")

    async def until_resumed(reply: Reply) -> None:
        async with asyncio.timeout(SECONDS):
            while (again := await resumed(reply)).status != 200:  # noqa: ASYNC110 – another process's doing
                await asyncio.sleep(0.05)
        assert again.body == reply.body

    await until_resumed(await streamed(pair[0]))
    redis.stop()
    during = [await streamed(gateway) for gateway in (*pair, *pair)]
    refused = await resumed(during[0])
    assert (refused.status, refused.error["code"]) == (503, "store_down")
    await asyncio.to_thread(redis.start)
    await until_resumed(await streamed(pair[0]))
    assert numbers(msgspec.json.encode(kept(pair[1], "s"))) == list(range(next(turn)))


async def away(server: Server, how: str) -> None:
    await asyncio.to_thread(server.stop if how == "stops" else server.freeze)


async def back(server: Server, how: str) -> None:
    await asyncio.to_thread(server.start if how == "stops" else server.thaw)
