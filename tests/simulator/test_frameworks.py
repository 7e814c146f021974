"""Agent frameworks that nobody here wrote, straight on the simulator: their loops end, and their structured output comes."""

from __future__ import annotations

import pytest
from agents import Agent as OpenAIAgent
from agents import OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent

from tests.kit.frameworks import SPOKEN, model_of
from tests.simulator.serving import Provider

set_tracing_disabled(True)


class Forecast(BaseModel):
    city: str
    celsius: int


def weather(city: str) -> str:
    """What the weather is like."""
    return f"Sunny in {city}"


every_model = pytest.mark.parametrize("kind", SPOKEN)


@every_model
async def test_pydantic_ai_uses_a_tool_and_answers_in_words(provider: Provider, kind: str) -> None:
    async with model_of(kind, provider.url) as model:
        agent = Agent(model, tools=[weather])
        answer = await agent.run("What is the weather in Oslo?")
        more = await agent.run("And in Bergen?", message_history=answer.all_messages())
    assert "Sunny in" in answer.output
    assert answer.usage.requests == 2
    assert "Sunny in" in more.output


@every_model
async def test_pydantic_ai_uses_a_tool_and_answers_with_a_structure(provider: Provider, kind: str) -> None:
    calls: list[str] = []

    def get_weather(city: str) -> str:
        calls.append(city)
        return "Sunny"

    async with model_of(kind, provider.url) as model:
        answer = await Agent(model, tools=[get_weather], output_type=Forecast).run("Use get_weather for Oslo")
    assert isinstance(answer.output, Forecast)
    assert len(calls) == 1


@every_model
async def test_pydantic_ai_streams(provider: Provider, kind: str) -> None:
    async with (
        model_of(kind, provider.url) as model,
        Agent(model, tools=[weather]).run_stream("What is the weather in Oslo?") as run,
    ):
        pieces = [piece async for piece in run.stream_text(delta=True, debounce_by=None)]
    assert "Sunny in" in "".join(pieces)
    assert len(pieces) > 1


@pytest.mark.parametrize("kind", ["chat", "responses"])
async def test_openai_agents_use_a_tool(provider: Provider, kind: str) -> None:
    async with AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="any", max_retries=0) as client:
        model = (OpenAIChatCompletionsModel if kind == "chat" else OpenAIResponsesModel)(model="gpt", openai_client=client)
        agent = OpenAIAgent(name="helper", instructions="Help.", model=model, tools=[function_tool(weather)])
        answer = await Runner.run(agent, "What is the weather in Oslo?", max_turns=4)
        assert "Sunny in" in answer.final_output
        streamed = Runner.run_streamed(agent, "What is the weather in Oslo?", max_turns=4)
        events = [event async for event in streamed.stream_events()]
    assert "Sunny in" in streamed.final_output
    assert events
