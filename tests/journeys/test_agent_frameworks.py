"""Agents made with frameworks that nobody here wrote use their tools through the gateway, over every kind of provider."""

from __future__ import annotations

import pytest
from agents import Agent as OpenAIAgent
from agents import OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent

from tests.kit.crossing import KINDS
from tests.kit.frameworks import SPOKEN, model_of
from tests.kit.gateway import Gateway

set_tracing_disabled(True)


class Forecast(BaseModel):
    city: str
    celsius: int


def get_weather(city: str) -> str:
    """What the weather is like."""
    return f"Sunny in {city}"


every_provider = pytest.mark.parametrize("kind", KINDS)


@every_provider
@pytest.mark.parametrize("spoken", SPOKEN)
async def test_pydantic_ai(crossing: Gateway, spoken: str, kind: str) -> None:
    async with model_of(spoken, crossing.url, kind) as model:
        agent = Agent(model, tools=[get_weather])
        answer = await agent.run("What is the weather in Oslo? Use get_weather.")
        more = await agent.run("Use get_weather for Bergen.", message_history=answer.all_messages())
        async with agent.run_stream("Use get_weather for Bodø.") as run:
            pieces = [piece async for piece in run.stream_text(delta=True, debounce_by=None)]
        structured = await Agent(model, tools=[get_weather], output_type=Forecast).run("Use get_weather for Oslo")
    assert "Sunny in" in answer.output
    assert answer.usage.requests == 2
    assert "Sunny in" in more.output
    assert "Sunny in" in "".join(pieces)
    assert isinstance(structured.output, Forecast)


@every_provider
@pytest.mark.parametrize("spoken", ["chat", "responses"])
async def test_openai_agents(crossing: Gateway, spoken: str, kind: str) -> None:
    async with AsyncOpenAI(base_url=f"{crossing.url}/v1", api_key="any", max_retries=0) as client:
        model = (OpenAIChatCompletionsModel if spoken == "chat" else OpenAIResponsesModel)(model=kind, openai_client=client)
        agent = OpenAIAgent(name="helper", instructions="Help.", model=model, tools=[function_tool(get_weather)])
        answer = await Runner.run(agent, "What is the weather in Oslo?", max_turns=4)
        streamed = Runner.run_streamed(agent, "What is the weather in Oslo?", max_turns=4)
        events = [event async for event in streamed.stream_events()]
    assert "Sunny in" in answer.final_output
    assert "Sunny in" in streamed.final_output
    assert events
