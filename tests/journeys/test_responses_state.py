"""The state of the Responses API by OpenAI's own SDK, over every kind of provider: gone on from, found, and forgotten."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response

from tests.journeys.conftest import one_edge
from tests.kit.configuration import PROVIDER_KEY
from tests.kit.crossing import KINDS, crossing_configuration
from tests.kit.eventually import eventually
from tests.kit.gateway import EdgeName, Gateway
from tests.kit.simulator import SimulatorProcess

TOOLS: Any = [
    {
        "type": "function",
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "strict": False,
    }
]
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
#: A provider that speaks Responses itself, beside the three kinds.
NATIVE = "native"
Launch = Callable[[], Gateway]


def state_configuration(simulators: dict[str, SimulatorProcess]) -> dict[str, Any]:
    config = crossing_configuration(simulators)
    native = {"kind": "openai", "api": "responses", "api_key": PROVIDER_KEY}
    config["providers"] |= {f"native-{pace}": native | {"base_url": f"{each.url}/v1"} for pace, each in simulators.items()}
    config["models"] |= {
        NATIVE: {"deployments": [{"provider": "native-fast", "model": "small"}]},
        "slow": {"deployments": [{"provider": "anthropic-slow", "model": "small"}]},
        # Begun, and not ended while a test looks.
        "endless": {"deployments": [{"provider": "anthropic-slow", "model": "small:hang-6"}]},
        "degraded": {
            "deployments": [{"provider": "openai-fast", "model": "small:fail-500"}],
            "fallback": {"reply": "Nobody is there."},
        },
    }
    config["timeouts"] = {"first_token_s": 5, "attempt_s": 30}
    return config


@pytest.fixture(scope="module")
def kept(edge: EdgeName, simulators: dict[str, SimulatorProcess], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("kept"), state_configuration(simulators), edge)
    try:
        yield gateway.start()
        gateway.assert_log_is_clean()
    finally:
        gateway.close()


@pytest.fixture
def own(edge: EdgeName, simulators: dict[str, SimulatorProcess], tmp_path: Path) -> Iterator[Gateway]:
    """One that the test may stop."""
    gateway = Gateway(tmp_path, state_configuration(simulators), edge)
    try:
        yield gateway.start()
        gateway.assert_log_is_clean()
    finally:
        gateway.close()


def sdk(gateway: Gateway, key: str = "sk-client", **headers: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0, timeout=20, default_headers=headers)


@pytest.fixture
async def client(kept: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with sdk(kept) as client:
        yield client


every_model = pytest.mark.parametrize("model", [*KINDS, NATIVE])
either_way = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])


async def ask(client: AsyncOpenAI, stream: bool = False, **asked: Any) -> Response:
    if not stream:
        answer = await client.responses.create(**asked)
        assert isinstance(answer, Response)
        return answer
    events = [event async for event in await client.responses.create(stream=True, **asked)]
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    told: Response = events[-1].response
    assert events[0].response.id == told.id
    return told


def call_of(answer: Response) -> Any:
    return next(item for item in answer.output if item.type == "function_call")


@every_model
@either_way
async def test_a_chain_branches(client: AsyncOpenAI, model: str, stream: bool) -> None:
    """Each answer calls a tool; what the tool said is repeated by the model, which so shows what it was told."""
    first = await ask(client, stream, model=model, input="Call get_weather.", tools=TOOLS, instructions="Be brief. " * 50)
    assert first.usage is not None
    call = call_of(first)
    said = {}
    for sky in ("azure", "crimson"):
        output = {"type": "function_call_output", "call_id": call.call_id, "output": f"sky {sky}"}
        branch = await ask(client, stream, model=model, input=[output], previous_response_id=first.id, tools=TOOLS)
        assert branch.previous_response_id == first.id
        said[sky] = branch
    assert "azure" in said["azure"].output_text
    assert "azure" not in said["crimson"].output_text
    third = await ask(client, stream, model=model, input="Thanks.", previous_response_id=said["azure"].id, tools=TOOLS)
    assert third.previous_response_id == said["azure"].id
    assert third.usage is not None
    assert said["azure"].usage is not None
    assert said["azure"].usage.input_tokens < third.usage.input_tokens < first.usage.input_tokens
    assert third.instructions is None


@every_model
@either_way
async def test_signed_thoughts_go_back_across_stored_turns(client: AsyncOpenAI, model: str, stream: bool) -> None:
    """The simulator refuses a thought that comes back changed, and Anthropic's a call of a tool without its thought."""
    asked: dict[str, Any] = {"model": model, "tools": TOOLS, "reasoning": {"effort": "low", "summary": "auto"}}
    answer = await ask(client, stream, input="Think hard, then call get_weather.", **asked)
    if model in ("anthropic", NATIVE):
        assert any(item.type == "reasoning" and item.encrypted_content for item in answer.output)
    for turn in range(2):
        output = {"type": "function_call_output", "call_id": call_of(answer).call_id, "output": f"sky {turn}"}
        answer = await ask(client, stream, input=[output], previous_response_id=answer.id, **asked)
        assert f"sky {turn}" in answer.output_text
        answer = await ask(
            client, stream, input="Think hard, then call get_weather.", previous_response_id=answer.id, **asked
        )


@every_model
@either_way
async def test_what_is_found_is_what_was_told(client: AsyncOpenAI, model: str, stream: bool) -> None:
    first = await ask(client, stream, model=model, input="Hello?", metadata={"a": "b"})
    answer = await ask(
        client,
        stream,
        model=model,
        input=[{"role": "user", "content": "One."}, {"role": "user", "content": "Two."}],
        previous_response_id=first.id,
    )
    assert answer.model_dump()["store"] is True
    assert await client.responses.retrieve(answer.id) == answer
    assert (await client.responses.retrieve(first.id)).metadata == {"a": "b"}
    items = [item async for item in client.responses.input_items.list(answer.id, order="asc", limit=1)]
    assert [item.content[0].text for item in items if item.type == "message"] == ["One.", "Two."]  # type: ignore[union-attr]
    assert len({item.id for item in items}) == 2
    await client.responses.delete(answer.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(answer.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.delete(answer.id)
    assert (await client.responses.retrieve(first.id)).id == first.id


async def test_what_is_not_to_be_stored_is_not(client: AsyncOpenAI) -> None:
    first = await ask(client, model="anthropic", input="Hello?")
    answer = await ask(client, model="anthropic", input="And?", store=False, previous_response_id=first.id)
    assert answer.model_dump()["store"] is False
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(answer.id)
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(client, model="anthropic", input="And?", previous_response_id=answer.id)
    assert refused.value.code == "previous_response_not_found"
    assert refused.value.param == "previous_response_id"
    with pytest.raises(openai.BadRequestError, match="background"):
        await ask(client, model="anthropic", input="And?", store=False, background=True)


async def test_a_chain_with_a_link_that_was_deleted(client: AsyncOpenAI) -> None:
    first = await ask(client, model="openai", input="Hello?")
    second = await ask(client, model="openai", input="And?", previous_response_id=first.id)
    await client.responses.delete(first.id)
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(client, model="openai", input="More?", previous_response_id=second.id)
    assert refused.value.code == "previous_response_not_found"
    assert first.id in refused.value.message


async def test_a_fixed_reply_is_found_but_not_gone_on_from(client: AsyncOpenAI) -> None:
    first = await ask(client, model="degraded", input="Hello?")
    assert first.output_text == "Nobody is there."
    assert (await client.responses.retrieve(first.id)).output_text == "Nobody is there."
    second = await ask(client, model="anthropic", input="And?", previous_response_id=first.id)
    conversation = await client.conversations.create()
    await ask(client, model="degraded", input="Hello?", conversation=conversation.id)
    assert [item async for item in client.conversations.items.list(conversation.id)] == []
    assert second.usage is not None
    assert second.usage.input_tokens < 30


async def test_of_other_users_nothing_is_seen(kept: Gateway, client: AsyncOpenAI) -> None:
    mine = await ask(client, model="openai", input="Hello?")
    conversation = await client.conversations.create()
    async with sdk(kept, **{"x-user-id": "another"}) as other:
        with pytest.raises(openai.NotFoundError):
            await other.responses.retrieve(mine.id)
        with pytest.raises(openai.NotFoundError):
            await other.responses.cancel(mine.id)
        with pytest.raises(openai.NotFoundError):
            await other.conversations.retrieve(conversation.id)
        with pytest.raises(openai.NotFoundError):
            await ask(other, model="openai", input="Hello?", conversation=conversation.id)
        with pytest.raises(openai.BadRequestError):
            await ask(other, model="openai", input="And?", previous_response_id=mine.id)


async def test_of_other_keys_nothing_is_seen(edge: EdgeName, simulators: dict[str, SimulatorProcess], tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, {**state_configuration(simulators), "auth": {"admin_key": "sk-admin-of-the-test"}}, edge)
    try:
        gateway.start()
        made = [await asyncio.to_thread(gateway.command, "keys", "create", name, "--json") for name in "ab"]
        keys = [msgspec.json.decode(key.stdout)["key"] for key in made]
        async with sdk(gateway, keys[0]) as mine, sdk(gateway, keys[1]) as other:
            answer = await ask(mine, model="openai", input="Hello?")
            assert (await mine.responses.retrieve(answer.id)).id == answer.id
            with pytest.raises(openai.NotFoundError):
                await other.responses.retrieve(answer.id)
            with pytest.raises(openai.NotFoundError):
                await other.responses.delete(answer.id)
        async with sdk(gateway, "agw_none") as nobody:
            with pytest.raises(openai.AuthenticationError):
                await nobody.responses.retrieve(answer.id)
    finally:
        gateway.close()


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("PATCH", "/v1/conversations/conv_1", 405, "GET, POST, DELETE"),
        ("GET", "/v1/conversations", 405, "POST"),
        ("POST", "/v1/responses/resp_1", 405, "GET, DELETE"),
        ("GET", "/v1/responses/resp_1/unheard_of", 404, "nothing at"),
        ("GET", "/v1/responses/resp_1/input_items?limit=0", 400, "limit"),
        ("GET", "/v1/responses/resp_1/input_items?order=up", 400, "order"),
        ("GET", "/v1/responses/resp_1?stream=true&starting_after=x", 400, "starting_after"),
        ("GET", "/v1/responses/resp_1?stream=true", 404, "no stream"),
        ("POST", "/v1/conversations", 400, "items[0]"),
    ],
)
def test_what_is_asked_for_wrongly(kept: Gateway, method: str, path: str, status: int, said: str) -> None:
    body = {"items": ["Hello?"]} if method == "POST" else None
    answer = httpx2.request(method, f"{kept.url}{path}", json=body, timeout=20)
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]


# --- conversations ----------------------------------------------------------------------------------------------------


@every_model
@either_way
async def test_a_conversation(client: AsyncOpenAI, model: str, stream: bool) -> None:
    conversation = await client.conversations.create(
        items=[{"type": "message", "role": "user", "content": "My sky is azure."}], metadata={"topic": "sky"}
    )
    first = await ask(client, stream, model=model, input="Call get_weather.", conversation=conversation.id, tools=TOOLS)
    assert first.conversation is not None
    assert first.conversation.id == conversation.id
    output = {"type": "function_call_output", "call_id": call_of(first).call_id, "output": "sky crimson"}
    second = await ask(client, stream, model=model, input=[output], conversation={"id": conversation.id}, tools=TOOLS)
    assert "crimson" in second.output_text
    kinds = [item.type async for item in client.conversations.items.list(conversation.id, order="asc", limit=2)]
    assert kinds == ["message", "message", "function_call", "function_call_output", "message"]
    with pytest.raises(openai.BadRequestError, match="conversation"):
        await ask(client, model=model, input="And?", previous_response_id=second.id)


async def test_an_item_that_is_deleted_is_nowhere_any_more(kept: Gateway, client: AsyncOpenAI) -> None:
    items: Any = [{"type": "message", "role": "user", "content": said} for said in ("This stays.", "This is secret-4711.")]
    conversation = await client.conversations.create(items=items, metadata={"topic": "secrets"})
    listed = [str(item.id) async for item in client.conversations.items.list(conversation.id)]
    await client.conversations.items.delete(listed[0], conversation_id=conversation.id)
    with pytest.raises(openai.NotFoundError):
        await client.conversations.items.delete(listed[0], conversation_id=conversation.id)
    with sqlite3.connect(kept.folder / "agent-gateway.db") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    files = b"".join(path.read_bytes() for path in kept.folder.glob("agent-gateway.db*"))
    assert b"This stays." in files
    assert b"secret-4711" not in files


async def test_a_part_of_a_turn_of_another_protocol_is_not_deleted(kept: Gateway, client: AsyncOpenAI) -> None:
    conversation = await client.conversations.create(metadata={"topic": "sky"})
    body = {
        "model": "openai",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Both.", "tool_calls": [CALL, {**CALL, "id": "call_2"}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "1"},
            {"role": "tool", "tool_call_id": "call_2", "content": "2"},
        ],
    }
    headers = {"x-session-id": conversation.id}
    async with httpx2.AsyncClient(base_url=kept.url, timeout=20) as http:
        assert (await http.post("/v1/chat/completions", json=body, headers=headers)).status_code == 200
    assert (await client.conversations.retrieve(conversation.id)).metadata == {"topic": "sky"}
    items = [item async for item in client.conversations.items.list(conversation.id, order="asc")]
    calls = [str(item.id) for item in items if item.type == "function_call"]
    assert len(calls) == 2
    with pytest.raises(openai.BadRequestError, match="another protocol"):
        await client.conversations.items.delete(calls[0], conversation_id=conversation.id)
    await client.conversations.items.delete(str(items[0].id), conversation_id=conversation.id)
    assert [item.id async for item in client.conversations.items.list(conversation.id, order="asc")] == [item.id for item in items[1:]]


async def test_the_items_of_a_conversation(client: AsyncOpenAI) -> None:
    conversation = await client.conversations.create(metadata={"topic": "sky"})
    assert (await client.conversations.retrieve(conversation.id)).metadata == {"topic": "sky"}
    assert (await client.conversations.update(conversation.id, metadata={"topic": "sea"})).metadata == {"topic": "sea"}
    added = await client.conversations.items.create(
        conversation.id,
        items=[{"type": "message", "role": "user", "content": word} for word in ("One.", "Two.", "Three.")],
    )
    assert not added.has_more
    first, second, third = [str(item.id) for item in added.data]
    one: Any = await client.conversations.items.retrieve(second, conversation_id=conversation.id)
    assert one.content[0].text == "Two."
    await client.conversations.items.delete(second, conversation_id=conversation.id)
    assert [item.id async for item in client.conversations.items.list(conversation.id)] == [third, first]
    with pytest.raises(openai.NotFoundError):
        await client.conversations.items.retrieve(second, conversation_id=conversation.id)
    assert (await client.conversations.retrieve(conversation.id)).metadata == {"topic": "sea"}
    with pytest.raises(openai.BadRequestError, match="after"):
        await client.conversations.items.list(conversation.id, after="msg_none")
    assert (await client.conversations.delete(conversation.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.conversations.retrieve(conversation.id)
    with pytest.raises(openai.NotFoundError):
        await ask(client, model="openai", input="Hello?", conversation=conversation.id)


async def test_answers_in_one_conversation_wait_for_each_other(client: AsyncOpenAI) -> None:
    conversation = await client.conversations.create()
    asked = [ask(client, model="anthropic", input=f"Question {number}.", conversation=conversation.id) for number in range(8)]
    await asyncio.gather(*asked)
    items: list[Any] = [item async for item in client.conversations.items.list(conversation.id, order="asc")]
    assert [item.role for item in items] == ["user", "assistant"] * 8
    assert {item.content[0].text for item in items[::2]} == {f"Question {number}." for number in range(8)}


async def test_a_conversation_goes_on_after_an_answer_that_failed(client: AsyncOpenAI) -> None:
    conversation = await client.conversations.create()
    with pytest.raises(openai.APIStatusError):
        await ask(client, model="openai:fail-500", input="Hello?", conversation=conversation.id)
    assert [item async for item in client.conversations.items.list(conversation.id)] == []
    await ask(client, model="openai", input="Hello?", conversation=conversation.id)
    assert len([item async for item in client.conversations.items.list(conversation.id)]) == 2


# --- in the background ------------------------------------------------------------------------------------------------


async def ended(client: AsyncOpenAI, response_id: str) -> Response:
    async with asyncio.timeout(20):
        while (answer := await client.responses.retrieve(response_id)).status in ("queued", "in_progress"):  # noqa: ASYNC110 – another process's doing
            await asyncio.sleep(0.02)
    return answer


@every_model
async def test_in_the_background(client: AsyncOpenAI, model: str) -> None:
    first = await ask(client, model=model, input="My sky is azure.")
    queued = await ask(client, model=model, input="Hello?", background=True, previous_response_id=first.id)
    assert (queued.status, queued.background, queued.output) == ("queued", True, [])
    answer = await ended(client, queued.id)
    assert (answer.status, answer.background, answer.id) == ("completed", True, queued.id)
    assert answer.previous_response_id == first.id
    assert answer.output_text
    assert (await client.responses.cancel(answer.id)).status == "completed"
    after = await ask(client, model=model, input="And?", previous_response_id=answer.id)
    assert after.output_text


async def test_a_failure_in_the_background(client: AsyncOpenAI) -> None:
    answer = await ended(client, (await ask(client, model="openai:fail-500", input="Hello?", background=True)).id)
    assert answer.status == "failed"
    assert answer.error is not None
    assert str(answer.error.code) == "provider_error"
    with pytest.raises(openai.BadRequestError, match="failed"):
        await ask(client, model="openai", input="And?", previous_response_id=answer.id)


async def test_what_is_refused_is_refused_at_once(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await ask(client, model="unheard-of", input="Hello?", background=True)
    with pytest.raises(openai.BadRequestError):
        await ask(client, model="openai", input="Hello?", background=True, previous_response_id="resp_none")


async def test_cancel(kept: Gateway, client: AsyncOpenAI) -> None:
    queued = await ask(client, model="endless", input="Write a long story.", background=True, max_output_tokens=4000)
    assert (await client.responses.cancel(queued.id)).status == "cancelled"
    assert (await client.responses.cancel(queued.id)).status == "cancelled"
    record = await eventually(lambda: kept.record(queued.id.replace("resp_", "req_")), "its record")
    assert record["status"] == "cancelled"
    assert (await client.responses.retrieve(queued.id)).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="background"):
        await client.responses.cancel((await ask(client, model="openai", input="Hello?")).id)


async def test_one_that_is_deleted_is_not_made_to_its_end(kept: Gateway, client: AsyncOpenAI) -> None:
    queued = await ask(client, model="endless", input="Write a long story.", background=True)
    await client.responses.delete(queued.id)
    record = await eventually(lambda: kept.record(queued.id.replace("resp_", "req_")), "its record")
    assert record["status"] == "cancelled"
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(queued.id)


@pytest.mark.parametrize("model", ["slow", NATIVE])
async def test_a_stream_in_the_background_is_taken_up_again(client: AsyncOpenAI, model: str) -> None:
    stream = await client.responses.create(model=model, input="Hello?", background=True, stream=True)
    seen = []
    async for event in stream:
        seen.append(event)
        if len(seen) == 6:
            await stream.close()
            break
    response_id = seen[0].response.id  # type: ignore[union-attr]
    rest = [event async for event in await client.responses.retrieve(response_id, stream=True, starting_after=5)]
    numbers = [event.sequence_number for event in [*seen, *rest]]
    assert numbers == list(range(len(numbers)))
    last: Any = rest[-1]
    assert last.type == "response.completed"
    assert last.response == await client.responses.retrieve(response_id)


# --- over the gateway's ends ------------------------------------------------------------------------------------------


@one_edge
async def test_a_chain_and_a_conversation_outlive_the_gateway(own: Gateway) -> None:
    async with sdk(own) as client:
        conversation = await client.conversations.create()
        answer = await ask(client, model="anthropic", input="Call get_weather.", tools=TOOLS)
        await ask(client, model="gemini", input="Hello?", conversation=conversation.id)
        await asyncio.to_thread(own.kill)
        await asyncio.to_thread(own.start)
        output = {"type": "function_call_output", "call_id": call_of(answer).call_id, "output": "sky azure"}
        answer = await ask(client, model="anthropic", input=[output], previous_response_id=answer.id, tools=TOOLS)
        assert "azure" in answer.output_text
        assert await asyncio.to_thread(own.stop) == 0
        await asyncio.to_thread(own.start)
        assert (await client.responses.retrieve(answer.id)) == answer
        await ask(client, model="openai", input="And?", conversation=conversation.id)
        assert len([item async for item in client.conversations.items.list(conversation.id)]) == 4


@one_edge
async def test_a_gateway_that_stops_lets_its_background_end(own: Gateway) -> None:
    async with sdk(own) as client:
        queued = await ask(client, model="slow", input="Hello?", background=True)
        assert await asyncio.to_thread(own.stop) == 0
        await asyncio.to_thread(own.start)
        assert (await client.responses.retrieve(queued.id)).status == "completed"


@one_edge
async def test_a_response_whose_gateway_was_killed_is_found_failed(own: Gateway) -> None:
    async with sdk(own) as client:
        queued = await ask(client, model="endless", input="Write a long story.", background=True)
        await asyncio.to_thread(own.kill)
        await asyncio.to_thread(own.start)
        async with asyncio.timeout(20):  # as long as a lease holds, its maker may still be there
            while (answer := await client.responses.retrieve(queued.id)).status != "failed":
                assert answer.status in ("queued", "in_progress")
                await asyncio.sleep(0.2)
        assert answer.error is not None
        assert "stopped" in answer.error.message
        assert (await client.responses.cancel(queued.id)).status == "failed"
