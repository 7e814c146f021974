"""A conversation written as an Anthropic request.

Promise: what the protocol cannot say is refused by the client's name for it, or is listed in the codec's `DROPPED`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from agent_gateway.core.conversation import Conversation, Thinking, Tool, ToolChoice
from agent_gateway.core.errors import NotExpressible
from agent_gateway.core.route import Deployment
from agent_gateway.protocols.anthropic.expressible import REFUSED
from agent_gateway.protocols.anthropic.messages import cache_control, thinks_first, write_turns
from agent_gateway.protocols.anthropic.models import Takes, takes
from agent_gateway.protocols.anthropic.schema import fitted
from agent_gateway.protocols.effort import BUDGET_TOKENS, budget_of, effort_of
from agent_gateway.protocols.end_user import user_of_anthropic
from agent_gateway.wire import anthropic as wire

_json = msgspec.json.Encoder()

#: The protocol requires a limit; where the client and the deployment set none. Source: Anthropic's claude-api skill ("Common pitfalls"),
#: for requests that are not streamed; all models since Claude 4.5 can write four times as much, those before 3.7 less
#: (`Takes.output_max`).
MAX_TOKENS = 16_000
#: Source: `budget_tokens` in Anthropic's API reference.
BUDGET_TOKENS_MIN = 1_024
#: OpenAI's goes to 2. Source: Anthropic, "OpenAI SDK compatibility": more than 1 is capped at 1.
TEMPERATURE_MAX = 1.0
#: Stands in for OpenAI's JSON mode, which promises JSON of no particular schema.
JSON_INSTRUCTION = "Answer with one JSON object and nothing else: no explanation before or after it, and no code fence around it."
_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


def write(conversation: Conversation, deployment: Deployment) -> bytes:
    """Raises `NotExpressible`."""
    _refuse(conversation)
    model = takes(deployment.model)
    system, messages = write_turns(conversation)
    if conversation.format is not None and conversation.format.schema is None:
        system.append(wire.Block("text", text=JSON_INSTRUCTION))
    request: dict[str, Any] = {"model": deployment.model, "messages": messages}
    if system:
        request["system"] = system
    if conversation.stream:
        request["stream"] = True
    request |= _tools(conversation) | _thinking(conversation, model) | _sampling(conversation)
    if conversation.max_output_tokens is not None:
        request["max_tokens"] = conversation.max_output_tokens
    if conversation.stop:
        request["stop_sequences"] = conversation.stop
    if conversation.user:
        request["metadata"] = wire.Metadata(user_of_anthropic(conversation.user))
    if conversation.format is not None and conversation.format.schema is not None:
        form = wire.JsonFormat("json_schema", fitted(conversation.format.schema))
        request["output_config"] = request.get("output_config", {}) | {"format": form}
    return _json.encode(_reconciled(deployment.default | request | deployment.override, model))


def _refuse(conversation: Conversation) -> None:
    if conversation.beyond:
        path = conversation.beyond[0]
        raise NotExpressible(f"{path}: {REFUSED['beyond']}", param=path)
    cannot = {
        "n": (conversation.n or 1) > 1,
        "logprobs": bool(conversation.logprobs),
        "top_logprobs": bool(conversation.top_logprobs),
        "presence_penalty": bool(conversation.presence_penalty),
        "frequency_penalty": bool(conversation.frequency_penalty),
        "stop": any(not sequence.strip() for sequence in conversation.stop),
    }
    for field, refused in cannot.items():
        if refused:
            path = conversation.path(field)
            raise NotExpressible(f"{path}: {REFUSED[field]}", param=path)


# --- tools ------------------------------------------------------------------------------------------------------------


def _tools(conversation: Conversation) -> dict[str, Any]:
    """Where only some tools may be called, only they are offered."""
    choice = conversation.tool_choice
    allowed = choice.names if choice is not None and (choice.mode == "auto" or len(choice.names) > 1) else ()
    tools = [_tool(tool) for tool in conversation.tools if not allowed or tool.name in allowed]
    if not tools:
        return {}
    told = None if choice is None else _tool_choice(choice)
    if conversation.parallel_tools is False and (told is None or told.type != "none"):
        told = told or wire.ToolChoice("auto")
        told.disable_parallel_tool_use = True
    return {"tools": tools} if told is None else {"tools": tools, "tool_choice": told}


def _tool(tool: Tool) -> wire.Tool:
    schema = _NO_PARAMETERS if tool.parameters is None else {"type": "object"} | tool.parameters
    return wire.Tool(
        tool.name,
        description=tool.description,
        input_schema=fitted(schema) if tool.strict else schema,
        strict=tool.strict,
        cache_control=cache_control(tool.cache_for),
    )


def _tool_choice(choice: ToolChoice) -> wire.ToolChoice:
    if choice.mode == "required" and len(choice.names) == 1:
        return wire.ToolChoice("tool", choice.names[0])
    return wire.ToolChoice("any" if choice.mode == "required" else choice.mode)


# --- thinking and sampling --------------------------------------------------------------------------------------------


def _thinking(conversation: Conversation, model: Takes) -> dict[str, Any]:
    """A model cannot be made to think before a tool that it must call. Source: Anthropic, "Extended thinking", tool use."""
    thinking = conversation.thinking
    choice = conversation.tool_choice
    budget = None if thinking is None else budget_of(thinking)
    if thinking is None or budget is None:
        return {}
    if budget == 0:
        return _no_thinking(model)
    forced = choice is not None and choice.mode == "required"
    if model.thinking == "budget" or (model.budgets and thinking.budget_tokens not in (None, -1)):
        tokens = BUDGET_TOKENS["medium"] if budget == -1 else max(budget, BUDGET_TOKENS_MIN)
        enabled = {"type": "enabled", "budget_tokens": tokens} | ({} if thinking.shown else {"display": "omitted"})
        return {} if forced else {"thinking": enabled}
    adaptive = {"type": "adaptive", "display": "summarized" if thinking.shown else "omitted"}
    effort = _effort(thinking, model)
    return ({} if forced else {"thinking": adaptive}) | ({} if effort is None else {"output_config": {"effort": effort}})


def _no_thinking(model: Takes) -> dict[str, Any]:
    if model.off is None:
        return {"output_config": {"effort": "low"}}
    return {"thinking": {"type": model.off}}


def _effort(thinking: Thinking, model: Takes) -> str | None:
    effort = effort_of(thinking)
    if effort == "minimal":
        return "low"
    return model.effort_max if effort == "xhigh" else effort


def _sampling(conversation: Conversation) -> dict[str, Any]:
    """Since Opus 4.1 a request may set `temperature` or `top_p`. Source: Anthropic, migration guide to Claude 4.5."""
    told: dict[str, Any] = {}
    if conversation.temperature is not None:
        told["temperature"] = min(conversation.temperature, TEMPERATURE_MAX)
    elif conversation.top_p is not None:
        told["top_p"] = conversation.top_p
    if conversation.top_k is not None:
        told["top_k"] = conversation.top_k
    return told


def _reconciled(request: dict[str, Any], model: Takes) -> dict[str, Any]:
    """What fields must agree on, whoever set them: no thoughts in a turn that began without, room beside them, no sampling."""
    thinking = _thinking_in(request)
    if thinking.get("type") == "enabled" and not thinks_first(request["messages"]):
        thinking = {}
        del request["thinking"]
    budget = thinking.get("budget_tokens", 0)
    limit = request.setdefault("max_tokens", min(MAX_TOKENS + budget, model.output_max or MAX_TOKENS + budget))
    if budget and budget >= limit:
        # The limit is what the client is ready to pay for; thoughts take half of it, or are not worth it.
        if limit // 2 < BUDGET_TOKENS_MIN:
            del request["thinking"]
        else:
            request["thinking"] = thinking | {"budget_tokens": limit // 2}
    if not model.sampling or _thinking_in(request).get("type") in ("enabled", "adaptive"):
        for name in ("temperature", "top_p", "top_k"):
            request.pop(name, None)
    return request


def _thinking_in(request: dict[str, Any]) -> dict[str, Any]:
    thinking = request.get("thinking")
    return thinking if isinstance(thinking, dict) else {}
