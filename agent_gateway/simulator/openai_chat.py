"""The simulator's OpenAI chat completions: requests to prompts, scripts to bytes."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import msgspec

from agent_gateway.core.errors import BadRequest
from agent_gateway.protocols.openai_chat import client as codec
from agent_gateway.simulator.dialect import Frame, Request, Stamp
from agent_gateway.simulator.script import Arguments, Finish, Prompt, Schema, Script, Text, Tool, ToolCall
from agent_gateway.simulator.tokens import estimated_tokens
from agent_gateway.wire import openai_chat as wire
from agent_gateway.wire.sse import data_frame

#: Tokens that frame each message, and each prompt (https://github.com/openai/openai-cookbook, "How to count tokens").
_MESSAGE_TOKENS = 3
_PROMPT_TOKENS = 3
#: What a part that is not text costs, as a small image does.
_PART_TOKENS = 85

#: What JSON mode answers with, nobody having said which members are wanted.
_ANY_OBJECT: Schema = {
    "type": "object",
    "properties": {
        "answer": {"type": "string", "minLength": 20},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3},
    },
    "required": ["answer", "confidence", "tags"],
}

_ERRORS = {
    400: ("The request is not valid (simulated).", "invalid_request_error", None),
    401: ("Incorrect API key provided (simulated).", "invalid_request_error", "invalid_api_key"),
    403: ("You are not allowed to use this model (simulated).", "invalid_request_error", "forbidden"),
    404: ("The model does not exist (simulated).", "invalid_request_error", "model_not_found"),
    429: ("Rate limit reached for requests (simulated).", "requests", "rate_limit_exceeded"),
    500: ("The server had an error while processing your request (simulated).", "server_error", None),
    503: ("The engine is currently overloaded, please try again later (simulated).", "service_unavailable", "overloaded"),
}
_ANY_CLIENT_ERROR = ("The request was refused (simulated).", "invalid_request_error", None)
_ANY_SERVER_ERROR = ("The server failed (simulated).", "server_error", None)


class OpenAIChat:
    def read(self, body: bytes) -> Request:
        asked = codec.read_request(body)
        options = asked.stream_options
        return Request(_prompt(asked), bool(asked.stream), bool(options and options.include_usage))

    def whole(self, script: Script, stamp: Stamp) -> bytes:
        choices: dict[int, wire.Choice] = {}
        for step in script.steps:
            choice = choices.setdefault(step.choice, wire.Choice(index=step.choice, message=wire.AnswerMessage()))
            message = choice.message
            match step:
                case Text(text=text):
                    message.content = (message.content or "") + text
                case ToolCall(id=call_id, name=name):
                    call = wire.ToolCall(id=f"call_{call_id}", function=wire.CalledFunction(name=name, arguments=""))
                    message.tool_calls = [*(message.tool_calls or ()), call]
                case Arguments(index=index, text=text):
                    function = message.tool_calls[index].function if message.tool_calls else None
                    assert function is not None
                    function.arguments += text
                case Finish(reason=reason):
                    choice.finish_reason = reason
                    if message.content is None and not message.tool_calls:
                        message.content = ""
        return codec.write_answer(
            wire.Answer(
                id=_answer_id(stamp),
                created=stamp.created,
                model=stamp.model,
                choices=[choices[index] for index in sorted(choices)],
                usage=codec.usage_to_wire(script.usage),
                system_fingerprint=_fingerprint(stamp.model),
            )
        )

    def frames(self, script: Script, stamp: Stamp, *, with_usage: bool) -> Iterator[Frame]:
        fingerprint = _fingerprint(stamp.model)
        writer = codec.StreamWriter(_answer_id(stamp), stamp.created, stamp.model, fingerprint=fingerprint, with_usage=with_usage)
        opened: set[int] = set()
        for step in script.steps:
            if step.choice not in opened:
                opened.add(step.choice)
                yield Frame(step.at_s, writer.role(step.choice, says_text=not isinstance(step, ToolCall)))
            match step:
                case Text(at_s=at_s, choice=choice, text=text):
                    yield Frame(at_s, writer.text(choice, text))
                case ToolCall(at_s=at_s, choice=choice, index=index, id=call_id, name=name):
                    yield Frame(at_s, writer.tool_call(choice, index, f"call_{call_id}", name))
                case Arguments(at_s=at_s, choice=choice, index=index, text=text):
                    yield Frame(at_s, writer.tool_arguments(choice, index, text))
                case Finish(at_s=at_s, choice=choice, reason=reason):
                    yield Frame(at_s, writer.finish(choice, reason))
        if with_usage:
            yield Frame(script.ends_at_s, writer.usage(script.usage))
        yield Frame(script.ends_at_s, codec.DONE)

    def error(self, status: int) -> bytes:
        message, kind, code = _ERRORS.get(status, _ANY_CLIENT_ERROR if status < 500 else _ANY_SERVER_ERROR)
        return msgspec.json.encode(wire.ErrorBody(wire.Error(message=message, type=kind, code=code)))

    def error_frame(self) -> bytes:
        return data_frame(self.error(500))

    def refusal(self, error: BadRequest) -> bytes:
        return codec.write_error(error)

    def garbage(self, *, stream: bool) -> bytes:
        broken = b'{"id":"chatcmpl-broken","object":"chat.comple'
        return data_frame(broken) + data_frame(b"\xff\xfe not json") if stream else broken


def _prompt(asked: wire.Request) -> Prompt:
    texts = [_text_of(message) for message in asked.messages]
    users = [text for message, text in zip(asked.messages, texts, strict=True) if message.role == "user"]
    tools, all_tools = _tools_to_call(asked)
    stop = asked.stop
    return Prompt(
        model=asked.model,
        question=users[-1] if users else texts[-1],
        conversation="\x00".join([f"{message.role}:{text}" for message, text in zip(asked.messages, texts, strict=True)]),
        input_tokens=_input_tokens(asked, texts),
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
        choices=asked.n or 1,
        seed=asked.seed,
        tools=tools,
        all_tools=all_tools,
        parallel=asked.parallel_tool_calls is not False,
        schema=_schema(asked.response_format),
    )


def _text_of(message: wire.Message) -> str:
    content = message.content
    if isinstance(content, list):
        content = "".join([part.text or f"[{part.type}]" for part in content])
    calls = [call.function.name + call.function.arguments for call in message.tool_calls or () if call.function]
    return "".join([content or "", *calls])


def _input_tokens(asked: wire.Request, texts: list[str]) -> int:
    tokens = _PROMPT_TOKENS + sum([_MESSAGE_TOKENS + estimated_tokens(len(text)) for text in texts])
    tokens += sum(
        [
            _PART_TOKENS
            for message in asked.messages
            if isinstance(message.content, list)
            for part in message.content
            if part.text is None
        ]
    )
    if asked.tools:
        tokens += estimated_tokens(len(msgspec.json.encode(asked.tools)))
    return tokens


def _tools_to_call(asked: wire.Request) -> tuple[tuple[Tool, ...], bool]:
    """The tools that are to be called in this turn, and whether each of them has to be. A tool's result is answered in words."""
    choice = asked.tool_choice
    if not asked.tools or choice == "none" or asked.messages[-1].role in ("tool", "function"):
        return (), False
    tools = {
        tool.function.name: Tool(tool.function.name, _parameters(tool.function), f"tools[{index}].function.parameters")
        for index, tool in enumerate(asked.tools)
        if tool.type == "function" and tool.function is not None
    }
    if not isinstance(choice, wire.ToolChoice):
        return tuple(tools.values()), False
    if choice.type == "allowed_tools" and choice.allowed_tools is not None:
        names = [tool.function.name for tool in choice.allowed_tools.tools if tool.function is not None]
        all_of_them = choice.allowed_tools.mode == "required" and len(names) > 1
    else:
        names, all_of_them = [choice.function.name] if choice.function else [], False
    if unknown := [name for name in names if name not in tools]:
        raise BadRequest(f"'tool_choice' names {unknown[0]!r}, which is not one of 'tools'.", param="tool_choice")
    return tuple([tools[name] for name in names]), all_of_them


def _parameters(function: wire.Function) -> Schema:
    return function.parameters or {"type": "object", "properties": {}, "additionalProperties": False}


def _schema(asked: wire.ResponseFormat | None) -> Schema | None:
    match asked:
        case wire.ResponseFormat(type="json_schema", json_schema=wire.JsonSchema(schema=schema)):
            return _ANY_OBJECT if schema is None else schema
        case wire.ResponseFormat(type="json_schema"):
            raise BadRequest("'response_format.json_schema' is required.", param="response_format.json_schema")
        case wire.ResponseFormat(type="json_object"):
            return _ANY_OBJECT
        case _:
            return None


def _answer_id(stamp: Stamp) -> str:
    return f"chatcmpl-{stamp.id}"


def _fingerprint(model: str) -> str:
    return "fp_" + blake2b(model.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
