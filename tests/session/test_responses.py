"""Responses that are kept: what goes on from them, what is told of them, and how they end when nobody makes them any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from msgspec import structs

from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import BadRequest, ConnectionCut, NotFound, PreviousResponseNotFound, ResponseCancelled, StoreDown
from agent_gateway.core.event import Chunk, Event, Failure, Whole
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.route import Deployment, Route
from agent_gateway.core.settings import Monitoring, Sessions, Settings
from agent_gateway.protocols.base import codec_of
from agent_gateway.session.items import Page
from agent_gateway.session.kept_response import KeptResponse, with_members
from agent_gateway.session.responses import Responses
from agent_gateway.session.turnstile import LEASE_S
from agent_gateway.stores.backends.memory import MemoryStore
from agent_gateway.stores.base import Owner, Store, StoredResponse, open_store
from tests.kit.eventually import eventually
from tests.session.exchanges import events

ME = Owner()
SETTINGS = Settings()
HELLO = {"role": "user", "content": "Hello?"}
ANSWER = {"id": "msg_1", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}


class Time:
    """What the clock says, moved by hand; who sleeps wakes when `tick` is called."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self._ticks = asyncio.Event()

    @property
    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now, wall=lambda: self.now)

    async def sleep(self, seconds: float) -> None:
        await self._ticks.wait()

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self._ticks.set()
        self._ticks = asyncio.Event()


class Broken(MemoryStore):
    """Down when it is told to be."""

    is_down = False

    async def put_response(self, owner: Owner, response: StoredResponse, *, now: float, ttl_s: float) -> None:
        if self.is_down:
            raise StoreDown("The database is down.")
        await super().put_response(owner, response, now=now, ttl_s=ttl_s)

    async def fetch_chain(self, owner: Owner, response_id: str, *, now: float, limit: int = 1_000) -> Any:
        if self.is_down:
            raise StoreDown("The database is down.")
        return await super().fetch_chain(owner, response_id, now=now, limit=limit)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest_asyncio.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    store = open_store("sqlite:///:memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/gateway.db")
    yield store
    await store.close()


@pytest_asyncio.fixture
async def responses(store: Store, time: Time) -> AsyncIterator[Responses]:
    responses = Responses(store, time.clock, sleep=time.sleep)
    yield responses
    await responses.close(5)


def new_exchange(number: int = 1, ttl_s: float = 500, **body: Any) -> Exchange:
    asked = msgspec.json.encode({"model": "m", "input": [HELLO], **body})
    return Exchange(
        id=f"req_{number:028x}",
        call=codec_of("openai_responses").read_call(asked, {}, ""),
        started=1_000.0,
        started_wall=1_000.0,
        route=Route(name="m", deployments=(Deployment(id="p/m", provider="p", model="m"),), sessions=Sessions(ttl_s=ttl_s)),
        deadline=2_000.0,
        status="success",
    )


def body_of(response_id: str, *output: Any, **more: Any) -> bytes:
    return msgspec.json.encode({"id": response_id, "status": "completed", "output": output or [ANSWER], "store": True, **more})


def frame(kind: str, response: bytes) -> bytes:
    return b'event: %b\ndata: {"type": "%b",  "response": %b, "sequence_number": 7}\n\n' % (kind.encode(), kind.encode(), response)


async def attached(responses: Responses, exchange: Exchange) -> KeptResponse:
    kept = await responses.attach(exchange, SETTINGS)
    assert kept is not None
    return kept


async def answered(responses: Responses, exchange: Exchange, *told: Event | BaseException) -> list[Event]:
    kept = await attached(responses, exchange)
    try:
        return [event async for event in kept.keep(events(*told))]
    finally:
        kept.leave()


async def one(responses: Responses, response_id: str = "resp_1", number: int = 1, **body: Any) -> None:
    await answered(responses, new_exchange(number, **body), Whole(body_of(response_id)))


def input_of(exchange: Exchange) -> list[Any]:
    told: list[Any] = msgspec.json.decode(exchange.call.body)["input"]
    return told


# --- what goes on from what -------------------------------------------------------------------------------------------


async def test_a_chain_is_sent_whole_and_stored_link_by_link(responses: Responses, store: Store) -> None:
    await one(responses, "resp_1")
    await one(responses, "resp_2", 2, previous_response_id="resp_1", input="And?")
    exchange = new_exchange(3, previous_response_id="resp_2", input="More?")
    await attached(responses, exchange)
    said = [{"type": "message", "role": "user", "content": text} for text in ("And?", "More?")]
    assert input_of(exchange) == [HELLO, ANSWER, said[0], ANSWER, said[1]]
    [_, second] = await store.fetch_chain(ME, "resp_2", now=1_000)
    assert (second.parent, msgspec.json.decode(second.input)) == ("resp_1", [said[0]])


async def test_what_is_stored_has_the_very_bytes_that_were_told(responses: Responses) -> None:
    """And goes on from there as it is: a signature that changed would be refused."""
    thought = b'{ "type":"reasoning", "id":"rs_1","summary":[], "encrypted_content":"g\\u0041=" }'
    body = b'{"id":"resp_1","status":"completed","store":true, "output":[%b],"other":1.50}' % thought
    [told] = await answered(responses, new_exchange(), Whole(body))
    assert isinstance(told, Whole)
    assert told.body == body
    assert (await responses.find(ME, "resp_1", 500)).body == body
    exchange = new_exchange(2, previous_response_id="resp_1")
    await attached(responses, exchange)
    assert thought in exchange.call.body


async def test_only_what_its_provider_was_not_told_is_changed_in_a_stream(responses: Responses) -> None:
    await one(responses)
    response = b'{"id": "resp_2", "previous_response_id": null,"status":"completed","output": [], "model": "m"}'
    text = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"a \\"response\\" "}\n\n'
    chunks = [frame("response.created", response) + text, b": heartbeat\n\n", frame("response.completed", response)]
    told = await answered(
        responses, new_exchange(2, previous_response_id="resp_1", stream=True), *[Chunk(data) for data in chunks]
    )
    named = response.replace(b"null", b'"resp_1"')
    assert [event.data for event in told if isinstance(event, Chunk)] == [chunk.replace(response, named) for chunk in chunks]
    assert (await responses.find(ME, "resp_2", 500)).body == named


async def test_data_on_several_lines_is_read_too(responses: Responses) -> None:
    data = frame("response.completed", body_of("resp_1")).replace(b'"sequence', b'\ndata: "sequence')
    [told] = await answered(responses, new_exchange(stream=True), Chunk(data))
    assert isinstance(told, Chunk)
    assert told.data == data
    assert (await responses.find(ME, "resp_1", 500)).body == body_of("resp_1")


@pytest.mark.parametrize("end", ["response.completed", "response.incomplete"])
async def test_it_is_stored_before_its_last_byte_goes_out(responses: Responses, end: str) -> None:
    kept = await attached(responses, new_exchange(stream=True))
    chunks = [Chunk(frame("response.created", body_of("resp_1"))), Chunk(frame(end, body_of("resp_1")))]
    async with aclosing(kept.keep(events(*chunks))) as told:
        await anext(told)
        with pytest.raises(NotFound):
            await responses.find(ME, "resp_1", 500)
        await anext(told)
        assert (await responses.find(ME, "resp_1", 500)).status == "completed"


@pytest.mark.parametrize("failed", [Failure(ConnectionCut("Cut.")), ConnectionCut("Cut."), asyncio.CancelledError()])
async def test_an_answer_that_breaks_off_leaves_nothing(responses: Responses, failed: Event | BaseException) -> None:
    exchange = new_exchange(stream=True)
    with suppress(ConnectionCut, asyncio.CancelledError):
        await answered(responses, exchange, Chunk(frame("response.created", body_of("resp_1"))), failed)
    with pytest.raises(NotFound):
        await responses.find(ME, "resp_1", 500)


async def test_a_chain_lives_as_long_as_its_youngest(responses: Responses, time: Time) -> None:
    await one(responses, "resp_1")
    time.now += 400
    await one(responses, "resp_2", 2, previous_response_id="resp_1")
    time.now += 400
    assert (await responses.find(ME, "resp_1", 500)).id == "resp_1"
    time.now += 200
    with pytest.raises(PreviousResponseNotFound):
        await attached(responses, new_exchange(3, previous_response_id="resp_2"))


async def test_a_response_of_a_conversation_is_gone_on_from_there(responses: Responses) -> None:
    conversation = await responses.conversations.create(ME, b"{}", 500)
    await one(responses, conversation=conversation.id)
    with pytest.raises(BadRequest, match="part of a conversation"):
        await attached(responses, new_exchange(2, previous_response_id="resp_1"))


async def test_a_session_is_not_mixed_with_a_chain(responses: Responses) -> None:
    await one(responses)
    exchange = new_exchange(2, previous_response_id="resp_1")
    exchange.session = "s"
    with pytest.raises(BadRequest, match="session"):
        await responses.attach(exchange, SETTINGS)


async def test_items_that_are_only_referred_to_are_put_in_their_places(responses: Responses, store: Store) -> None:
    own = {**ANSWER, "id": f"msg_{1:028x}_0"}
    await answered(responses, new_exchange(), Whole(body_of(f"resp_{1:028x}", own)))
    reference = {"type": "item_reference", "id": own["id"]}
    unknown = {"type": "item_reference", "id": "rs_of_the_provider"}
    exchange = new_exchange(2, input=[reference, unknown, HELLO])
    await answered(responses, exchange, Whole(body_of("resp_2")))
    assert input_of(exchange) == [own, unknown, HELLO]
    [kept] = await store.fetch_chain(ME, "resp_2", now=1_000)
    assert msgspec.json.decode(kept.input) == [own, unknown, HELLO]
    exchange = new_exchange(3, input=[reference, HELLO], previous_response_id=f"resp_{1:028x}")
    await attached(responses, exchange)
    assert input_of(exchange) == [HELLO, own, HELLO]


# --- where nothing can be kept ----------------------------------------------------------------------------------------


async def test_an_answer_goes_out_though_the_store_is_down(time: Time) -> None:
    store = Broken()
    responses = Responses(store, time.clock)
    await one(responses)
    store.is_down = True
    [told] = await answered(responses, new_exchange(2), Whole(body_of("resp_2")))
    assert isinstance(told, Whole)
    assert msgspec.json.decode(told.body) == msgspec.json.decode(body_of("resp_2")) | {"store": False}
    assert responses.unsaved == 1
    with pytest.raises(StoreDown):
        await responses.attach(new_exchange(3, previous_response_id="resp_1"), SETTINGS)
    with pytest.raises(StoreDown):
        await answered(responses, new_exchange(4, background=True), Whole(body_of("resp_3")))
    store.is_down = False
    await attached(responses, new_exchange(5, previous_response_id="resp_1"))
    await responses.close(5)


async def test_no_content_is_kept_where_none_may_be(responses: Responses) -> None:
    settings = structs.replace(SETTINGS, monitoring=Monitoring(mode="minimal"))
    assert await responses.attach(new_exchange(), settings) is None
    for asked in ({"previous_response_id": "resp_1"}, {"conversation": "conv_1"}, {"background": True}):
        with pytest.raises(BadRequest, match=next(iter(asked))):
            await responses.attach(new_exchange(**asked), settings)


async def test_without_records_responses_are_kept_all_the_same(responses: Responses) -> None:
    settings = structs.replace(SETTINGS, monitoring=Monitoring(mode="off"))
    assert await responses.attach(new_exchange(), settings) is not None


# --- in the background ------------------------------------------------------------------------------------------------


class Background:
    """One that is being made, by a provider that answers when it is told to."""

    def __init__(self, responses: Responses, number: int = 1) -> None:
        self.exchange = new_exchange(number, background=True)
        self.id = f"resp_{number:028x}"
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.queued: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._run(responses))

    async def is_under_way(self, responses: Responses) -> None:
        await self.queued
        await until_status(responses, self.id, "in_progress")

    async def _run(self, responses: Responses) -> None:
        kept = await attached(responses, self.exchange)
        async with aclosing(kept.keep(self._provider())) as told:
            async for event in told:
                if isinstance(event, Whole) and not self.queued.done():
                    self.queued.set_result(event.body)

    async def _provider(self) -> AsyncGenerator[Event, None]:
        yield Whole(await self.answer)


async def until_status(responses: Responses, response_id: str, status: str) -> dict[str, Any]:
    found = await responses.find(ME, response_id, 500)
    for _ in range(5_000):
        if found.status == status:
            break
        await asyncio.sleep(0.001)
        found = await responses.find(ME, response_id, 500)
    body: dict[str, Any] = msgspec.json.decode(found.body)
    assert body["status"] == status
    return body


async def test_one_in_the_background_from_queue_to_end(responses: Responses) -> None:
    made = Background(responses)
    await made.is_under_way(responses)
    queued = msgspec.json.decode(made.queued.result())
    assert (queued["id"], queued["status"], queued["background"], queued["output"]) == (made.id, "queued", True, [])
    made.answer.set_result(body_of("resp_of_the_provider", background=False))
    await made.task
    body = await until_status(responses, made.id, "completed")
    assert (body["id"], body["background"], body["output"]) == (made.id, True, [ANSWER])
    assert not responses.running


async def test_one_whose_process_is_gone_is_failed_once_its_lease_is_over(store: Store, time: Time) -> None:
    dead, alive = Responses(store, time.clock, sleep=time.sleep), Responses(store, time.clock, sleep=time.sleep)
    made = Background(dead)
    await made.is_under_way(dead)
    assert (await alive.find(ME, made.id, 500)).status == "in_progress"
    time.now += LEASE_S + 1  # nobody has renewed it
    body = await until_status(alive, made.id, "failed")
    assert "stopped" in body["error"]["message"]
    made.answer.set_result(body_of("resp_x"))  # it was only asleep: what is told stays told
    await made.task
    assert (await alive.find(ME, made.id, 500)).status == "failed"


async def test_a_lease_is_renewed_as_long_as_it_is_made(store: Store, time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    maker, reader = Responses(store, time.clock, sleep=time.sleep), Responses(store, time.clock, sleep=time.sleep)
    acquire, renewed = store.acquire, []

    async def noted(owner: Owner, session: str, holder: str, **until: float) -> bool:
        acquired = await acquire(owner, session, holder, **until)
        if holder == maker.turnstile._holder:
            renewed.append(time.now)
        return acquired

    monkeypatch.setattr(store, "acquire", noted)
    made = Background(maker)
    await made.is_under_way(maker)
    for _ in range(4):
        time.tick(LEASE_S * 0.8)
        await eventually(lambda: renewed[-1] == time.now, "it is renewed")
        assert (await reader.find(ME, made.id, 500)).status == "in_progress"
    made.answer.set_result(body_of("resp_x"))
    await made.task
    assert (await reader.find(ME, made.id, 500)).status == "completed"


@pytest.mark.parametrize("where", ["here", "elsewhere"])
@pytest.mark.parametrize("how", ["cancel", "delete"])
async def test_one_is_called_off(store: Store, time: Time, where: str, how: str) -> None:
    maker = Responses(store, time.clock, sleep=time.sleep)
    asked = maker if where == "here" else Responses(store, time.clock, sleep=time.sleep)
    made = Background(maker)
    await made.is_under_way(maker)
    if how == "cancel":
        assert (await asked.cancel(ME, made.id, 500)).status == "cancelled"
    else:
        await asked.delete(ME, made.id)
    while not made.task.done():
        time.tick(1)
        await asyncio.wait([made.task], timeout=0.05)  # far less than the response lives, however slow the store is
    with pytest.raises(ResponseCancelled):
        await made.task
    if how == "cancel":
        assert (await asked.find(ME, made.id, 500)).status == "cancelled"
    else:
        with pytest.raises(NotFound):
            await asked.find(ME, made.id, 500)


async def test_one_is_called_off_elsewhere_as_soon_as_its_client_knows_of_it(store: Store, time: Time) -> None:
    maker, asked = (Responses(store, time.clock, sleep=time.sleep) for _ in range(2))
    kept = await attached(maker, new_exchange(background=True))
    async with aclosing(kept.keep(events(Whole(body_of("resp_of_the_provider"))))) as told:
        await anext(told)
        assert (await asked.cancel(ME, kept.id, 500)).status == "cancelled"
        async for _ in told:
            pass
    assert (await asked.find(ME, kept.id, 500)).status == "cancelled"
    await maker.close(5)


async def test_one_that_the_gateways_stop_interrupts_is_failed(responses: Responses) -> None:
    made = Background(responses)
    await made.is_under_way(responses)
    made.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await made.task
    body = await until_status(responses, made.id, "failed")
    assert body["error"]["code"] == "shutting_down"


async def test_one_that_fails_says_why(responses: Responses) -> None:
    with pytest.raises(ConnectionCut):
        await answered(responses, new_exchange(background=True), ConnectionCut("The connection was cut."))
    body = await until_status(responses, f"resp_{1:028x}", "failed")
    assert body["error"] == {"code": ConnectionCut.code, "message": "The connection was cut."}


async def test_only_one_that_has_an_answer_is_gone_on_from(responses: Responses) -> None:
    made = Background(responses)
    await made.is_under_way(responses)
    with pytest.raises(BadRequest, match="in_progress"):
        await attached(responses, new_exchange(2, previous_response_id=made.id))
    await responses.cancel(ME, made.id, 500)
    with pytest.raises(ResponseCancelled):
        await made.task
    with pytest.raises(BadRequest, match="cancelled"):
        await attached(responses, new_exchange(2, previous_response_id=made.id))


# --- lists ------------------------------------------------------------------------------------------------------------


async def test_input_items_page_by_page(responses: Responses) -> None:
    result = {"type": "function_call_output", "id": "fco_mine", "call_id": "c", "output": "x"}
    await one(responses, input=[HELLO, result, {**HELLO, "content": [{"type": "input_text", "text": "a"}]}])
    whole = await responses.input_items(ME, "resp_1", Page(order="asc"))
    ids = [item["id"] for item in whole.data]
    assert ids == ["msg_1_in0", "fco_mine", "msg_1_in2"]
    assert whole.data[0]["content"] == [{"type": "input_text", "text": "Hello?"}]
    assert (whole.first_id, whole.last_id, whole.has_more) == (ids[0], ids[2], False)
    page = await responses.input_items(ME, "resp_1", Page(after=ids[2], limit=1))
    assert ([item["id"] for item in page.data], page.has_more) == ([ids[1]], True)
    nothing = await responses.input_items(ME, "resp_1", Page(after=ids[0]))
    assert (nothing.data, nothing.first_id, nothing.has_more) == ([], None, False)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a": null, "b":[1]}', b'{"a": "x", "b":[1]}'),
        (b' {"b":{"a":1}}', b'{"a":"x","b":{"a":1}}'),
        (b'{"a":{"c":1}}', b'{"a":{"c":1}}'),
    ],
)
def test_members_are_put_where_they_belong(body: bytes, expected: bytes) -> None:
    assert with_members(body, {"a": "x"}) == expected
