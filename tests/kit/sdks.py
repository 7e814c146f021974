"""The providers' official SDKs behind one face, so that one journey is walked with each: their own parsing judges what they get.

A conversation is kept in the SDK's own terms: what a model answered is handed back as the SDK gave it.
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar

import anthropic
import httpx2
import msgspec
import openai
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types

TIMEOUT_S = 20
MAX_TOKENS = 4096
THINK_TOKENS = 1024


@dataclass
class Told:
    """What an answer said. `usage` is input and output tokens, as the protocol counts them."""

    text: str = ""
    thoughts: str = ""
    #: Id, name, arguments.
    calls: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    finish: str = ""
    usage: tuple[int, int] = (0, 0)
    #: Pieces that came; 1 for a whole answer.
    pieces: int = 1
    model: str = ""


class Refused(Exception):
    """An error of the SDK: `status` None in the middle of a stream; `told` is what had come by then."""

    def __init__(self, status: int | None, message: str, told: Told | None = None) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message
        self.told = told


@dataclass
class Ask:
    """What the next turn asks for beside its text."""

    stream: bool = False
    tools: Sequence[dict[str, Any]] = ()
    schema: dict[str, Any] | None = None
    think: bool = False


class Sdk(ABC):
    """One conversation with one model."""

    name: ClassVar[str]
    #: What it calls the finish of an answer that ended by itself, and of one that calls tools.
    ends: ClassVar[str]
    calls_tools: ClassVar[str]

    def __init__(self, url: str, model: str, key: str, headers: Mapping[str, str] | None = None) -> None:
        self.model = model
        self.headers = dict(headers or {})
        self.history: list[Any] = []
        self.open(url, key)

    async def __aenter__(self) -> Sdk:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    @abstractmethod
    def open(self, url: str, key: str) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    def user(self, text: str, image: tuple[str, bytes] | None = None) -> None:
        """A user's turn; `image` is a media type and its bytes."""

    @abstractmethod
    def results(self, told: Told, results: Sequence[dict[str, Any]]) -> None:
        """The results of the tools that were called, in order."""

    @abstractmethod
    async def answer(self, ask: Ask) -> Told:
        """Raises `Refused`. The answer is in the history then."""


class OpenAIChat(Sdk):
    name = "openai chat"
    ends, calls_tools = "stop", "tool_calls"

    def open(self, url: str, key: str) -> None:
        self.client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=TIMEOUT_S, default_headers=self.headers)

    async def close(self) -> None:
        await self.client.close()

    def user(self, text: str, image: tuple[str, bytes] | None = None) -> None:
        content: Any = text
        if image is not None:
            content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": _data_url(image)}}]
        self.history.append({"role": "user", "content": content})

    def results(self, told: Told, results: Sequence[dict[str, Any]]) -> None:
        for (call_id, _, _), result in zip(told.calls, results, strict=True):
            self.history.append({"role": "tool", "tool_call_id": call_id, "content": _json(result)})

    async def answer(self, ask: Ask) -> Told:
        extra: dict[str, Any] = {}
        if ask.tools:
            extra["tools"] = [{"type": "function", "function": tool} for tool in ask.tools]
        if ask.schema is not None:
            extra["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": ask.schema}}
        if ask.think:
            extra["reasoning_effort"] = "low"
        pieces = 1
        so_far = Told()
        try:
            if ask.stream:
                extra["stream_options"] = {"include_usage": True}
                async with self.client.chat.completions.stream(model=self.model, messages=self.history, **extra) as stream:
                    async for event in stream:
                        pieces += 1
                        if event.type == "content.delta":
                            so_far.text += event.delta
                    made: Any = await stream.get_final_completion()
            else:
                made = await self.client.chat.completions.create(model=self.model, messages=self.history, **extra)
        except openai.APIError as error:
            raise Refused(getattr(error, "status_code", None), error.message, so_far) from error
        message = made.choices[0].message
        self.history.append(message.model_dump(exclude_none=True, exclude={"parsed"}))
        calls = [(call.id, call.function.name, msgspec.json.decode(call.function.arguments)) for call in message.tool_calls or ()]
        return Told(
            text=message.content or "",
            thoughts=getattr(message, "reasoning_content", None) or "",
            calls=calls,
            finish=made.choices[0].finish_reason,
            usage=(made.usage.prompt_tokens, made.usage.completion_tokens),
            pieces=pieces,
            model=made.model,
        )


class OpenAIResponses(Sdk):
    name = "openai responses"
    ends, calls_tools = "completed", "completed"
    #: Whether answers are to be kept.
    store = False

    def open(self, url: str, key: str) -> None:
        self.client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=TIMEOUT_S, default_headers=self.headers)

    async def close(self) -> None:
        await self.client.close()

    def user(self, text: str, image: tuple[str, bytes] | None = None) -> None:
        content: list[dict[str, Any]] = [{"type": "input_text", "text": text}]
        if image is not None:
            content.append({"type": "input_image", "image_url": _data_url(image), "detail": "auto"})
        self.history.append({"role": "user", "content": content})

    def results(self, told: Told, results: Sequence[dict[str, Any]]) -> None:
        for (call_id, _, _), result in zip(told.calls, results, strict=True):
            self.history.append({"type": "function_call_output", "call_id": call_id, "output": _json(result)})

    async def answer(self, ask: Ask) -> Told:
        extra: dict[str, Any] = {"store": self.store}
        if ask.tools:
            extra["tools"] = [{"type": "function", "strict": False, **tool} for tool in ask.tools]
        if ask.schema is not None:
            extra["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": ask.schema, "strict": False}}
        if ask.think:
            extra["reasoning"] = {"effort": "low", "summary": "auto"}
            extra["include"] = ["reasoning.encrypted_content"]
        pieces = 1
        so_far = Told()
        try:
            if ask.stream:
                async with self.client.responses.stream(model=self.model, input=self.history, **extra) as stream:
                    async for event in stream:
                        pieces += 1
                        if event.type == "response.output_text.delta":
                            so_far.text += event.delta
                    made: Any = await stream.get_final_response()
            else:
                made = await self.client.responses.create(model=self.model, input=self.history, **extra)
        except openai.APIError as error:
            raise Refused(getattr(error, "status_code", None), error.message, so_far) from error
        except RuntimeError as error:  # the SDK's word for a stream that ends without its last event
            raise Refused(None, str(error), so_far) from error
        told = Told(finish=made.status, usage=(made.usage.input_tokens, made.usage.output_tokens), pieces=pieces, model=made.model)
        for item in made.output:
            plain = item.model_dump(exclude_none=True)
            plain.pop("parsed_arguments", None)
            for content in plain.get("content") or ():
                content.pop("parsed", None)
            self.history.append(plain)
            match item.type:
                case "reasoning":
                    told.thoughts += "".join(part.text for part in item.summary)
                case "function_call":
                    told.calls.append((item.call_id, item.name, msgspec.json.decode(item.arguments)))
                case "message":
                    told.text += "".join(part.text for part in item.content if part.type == "output_text")
        return told


class Anthropic(Sdk):
    name = "anthropic"
    ends, calls_tools = "end_turn", "tool_use"

    def open(self, url: str, key: str) -> None:
        self.client = anthropic.AsyncAnthropic(base_url=url, api_key=key, max_retries=0, timeout=TIMEOUT_S, default_headers=self.headers)

    async def close(self) -> None:
        await self.client.close()

    def user(self, text: str, image: tuple[str, bytes] | None = None) -> None:
        content: list[dict[str, Any]] = [{"type": "text", "text": text}]
        if image is not None:
            source = {"type": "base64", "media_type": image[0], "data": base64.b64encode(image[1]).decode()}
            content.append({"type": "image", "source": source})
        self.history.append({"role": "user", "content": content})

    def results(self, told: Told, results: Sequence[dict[str, Any]]) -> None:
        blocks = [
            {"type": "tool_result", "tool_use_id": call_id, "content": _json(result)}
            for (call_id, _, _), result in zip(told.calls, results, strict=True)
        ]
        self.history.append({"role": "user", "content": blocks})

    async def answer(self, ask: Ask) -> Told:
        extra: dict[str, Any] = {}
        if ask.tools:
            extra["tools"] = [
                {"name": tool["name"], "description": tool["description"], "input_schema": tool["parameters"]} for tool in ask.tools
            ]
        if ask.schema is not None:
            extra["output_config"] = {"format": {"type": "json_schema", "schema": ask.schema}}
        if ask.think:
            extra["thinking"] = {"type": "enabled", "budget_tokens": THINK_TOKENS}
        pieces = 1
        so_far = Told()
        try:
            arguments = {"model": self.model, "max_tokens": MAX_TOKENS, "messages": self.history, **extra}
            if ask.stream:
                async with self.client.messages.stream(**arguments) as stream:
                    async for event in stream:
                        pieces += 1
                        if event.type == "text":
                            so_far.text += event.text
                    made: Any = await stream.get_final_message()
            else:
                made = await self.client.messages.create(**arguments)
        except anthropic.APIStatusError as error:  # in mid-stream with the status of the stream's head
            raise Refused(None if error.status_code == 200 else error.status_code, error.message, so_far) from error
        except (anthropic.APIError, httpx2.RemoteProtocolError) as error:
            raise Refused(None, str(error), so_far) from error
        self.history.append({"role": "assistant", "content": made.content})
        usage = made.usage
        told = Told(finish=made.stop_reason, usage=(usage.input_tokens, usage.output_tokens), pieces=pieces, model=made.model)
        for block in made.content:
            match block.type:
                case "thinking":
                    told.thoughts += block.thinking
                case "tool_use":
                    told.calls.append((block.id, block.name, dict(block.input)))
                case "text":
                    told.text += block.text
        return told


class Gemini(Sdk):
    name = "google-genai"
    ends, calls_tools = "STOP", "STOP"

    def open(self, url: str, key: str) -> None:
        options = genai_types.HttpOptions(base_url=url, timeout=TIMEOUT_S * 1000, headers=self.headers)
        self.client = genai.Client(api_key=key, http_options=options)

    async def close(self) -> None:
        await self.client.aio.aclose()
        self.client.close()

    def user(self, text: str, image: tuple[str, bytes] | None = None) -> None:
        parts = [genai_types.Part.from_text(text=text)]
        if image is not None:
            parts.append(genai_types.Part.from_bytes(mime_type=image[0], data=image[1]))
        self.history.append(genai_types.Content(role="user", parts=parts))

    def results(self, told: Told, results: Sequence[dict[str, Any]]) -> None:
        parts = [
            genai_types.Part(function_response=genai_types.FunctionResponse(id=call_id or None, name=name, response=result))
            for (call_id, name, _), result in zip(told.calls, results, strict=True)
        ]
        self.history.append(genai_types.Content(role="user", parts=parts))

    async def answer(self, ask: Ask) -> Told:
        config: dict[str, Any] = {"automatic_function_calling": {"disable": True}}
        if ask.tools:
            declarations = [
                {"name": tool["name"], "description": tool["description"], "parameters_json_schema": tool["parameters"]}
                for tool in ask.tools
            ]
            config["tools"] = [{"function_declarations": declarations}]
        if ask.schema is not None:
            config |= {"response_mime_type": "application/json", "response_json_schema": ask.schema}
        if ask.think:
            config["thinking_config"] = {"include_thoughts": True, "thinking_budget": THINK_TOKENS}
        told = Told(pieces=0)
        parts: list[genai_types.Part] = []
        try:
            arguments: dict[str, Any] = {"model": self.model, "contents": self.history, "config": config}
            if ask.stream:
                async for chunk in await self.client.aio.models.generate_content_stream(**arguments):
                    self._take(chunk, told, parts)
            else:
                self._take(await self.client.aio.models.generate_content(**arguments), told, parts)
        except genai_errors.APIError as error:
            raise Refused(None if told.pieces else error.code, error.message or "", told) from error
        except (httpx2.HTTPError, ValueError) as error:
            raise Refused(None, str(error), told) from error
        self.history.append(genai_types.Content(role="model", parts=parts))
        return told

    @staticmethod
    def _take(chunk: genai_types.GenerateContentResponse, told: Told, parts: list[genai_types.Part]) -> None:
        told.pieces += 1
        told.model = chunk.model_version or told.model
        if chunk.usage_metadata is not None:
            usage = chunk.usage_metadata
            told.usage = (usage.prompt_token_count or 0, usage.candidates_token_count or 0)
        for candidate in chunk.candidates or ():
            if candidate.finish_reason is not None:
                told.finish = candidate.finish_reason.value
            for part in (candidate.content and candidate.content.parts) or ():
                parts.append(part)
                if part.thought:
                    told.thoughts += part.text or ""
                elif part.function_call is not None:
                    call = part.function_call
                    told.calls.append((call.id or "", call.name or "", dict(call.args or {})))
                else:
                    told.text += part.text or ""


SDKS: tuple[type[Sdk], ...] = (OpenAIChat, OpenAIResponses, Anthropic, Gemini)


def _data_url(image: tuple[str, bytes]) -> str:
    return f"data:{image[0]};base64,{base64.b64encode(image[1]).decode()}"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
