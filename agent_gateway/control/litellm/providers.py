"""Whose model `litellm_params` names, and the entry under `providers` that speaks to it with its address and key."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from agent_gateway.control.litellm.section import Section
from agent_gateway.upstream.known_providers import known_providers

#: LiteLLM's prefix of a model's name → our kind of provider, where it is another word.
_KINDS = {
    "text-completion-openai": "openai",
    "openai_like": "openai",
    "custom_openai": "openai",
    "litellm_proxy": "openai",
    "anthropic_text": "anthropic",
    "azure_text": "azure",
    "azure_ai": "azure",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "nvidia_nim": "nvidia",
    "cohere_chat": "cohere",
    "ollama_chat": "ollama",
    "hosted_vllm": "vllm",
    "lm_studio": "lmstudio",
}
#: Without an address of their own they are nowhere.
_ADDRESS_NEEDED = frozenset({"openai_like", "custom_openai", "litellm_proxy"})
#: A bare name's provider, as LiteLLM takes it.
_BARE = (
    (re.compile(r"(ft:)?(gpt-|chatgpt-|o\d(-|$)|text-embedding-|codex-|davinci|babbage)"), "openai"),
    (re.compile(r"claude-"), "anthropic"),
    (re.compile(r"command"), "cohere"),
    (re.compile(r"mistral-|codestral|open-mixtral"), "mistral"),
    (re.compile(r"deepseek-"), "deepseek"),
)
#: What to do about those that there is no kind for.
_ADVICE = {
    "bedrock": "Amazon Bedrock's own API is not spoken; it has one that is OpenAI's: kind: openai, with its address and a Bedrock API key",
    "vertex_ai": "Vertex AI is not spoken; the same models are at Google AI Studio: kind: gemini with a GEMINI_API_KEY",
    "sagemaker": "SageMaker's own API is not spoken; put a server that speaks OpenAI's before it: kind: openai with its address",
}
_OTHERWISE = "there is no such provider; where it speaks OpenAI's API, write it by hand: kind: openai with its address and key"
#: Where LiteLLM looks for a key that is not given, where that is not where we do.
_KEYS = {
    "azure": "AZURE_API_KEY",
    "together": "TOGETHERAI_API_KEY",
    "fireworks": "FIREWORKS_AI_API_KEY",
    "nvidia": "NVIDIA_NIM_API_KEY",
    "perplexity": "PERPLEXITYAI_API_KEY",
    "huggingface": "HUGGINGFACE_API_KEY",
}
_HOST = re.compile(r"^(https?://[^/]+|\$\{\w+\})")


class Providers:
    """`found` is what stands under `providers`. The first is called as LiteLLM's prefix, so that `groq/NAME` stays what it was."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, Any]] = {}

    def of(self, params: Section) -> tuple[str, str] | None:
        """Takes model, address and key; gives the provider's name and its name of the model. None: there is none, which is then noted."""
        model = params.take("model")
        chosen = params.take("custom_llm_provider")
        if not isinstance(model, str) or not model:
            params.note("model", model, "is not a model's name; the deployment is left out")
            return None
        prefix, _, rest = model.partition("/")
        if isinstance(chosen, str):
            prefix, rest = chosen, model.removeprefix(f"{chosen}/")
        elif not rest:
            prefix, rest = next((kind for pattern, kind in _BARE if pattern.match(model)), ""), model
        kind = _KINDS.get(prefix, prefix)
        if not prefix:
            params.note("model", model, "says no provider; write PROVIDER/MODEL and convert again. The deployment is left out")
            return None
        if kind not in {known.kind for known in known_providers()}:
            start = next((name for name in _ADVICE if prefix.startswith(name)), "")
            params.note("model", model, f"{_ADVICE.get(start, _OTHERWISE)}. The deployment is left out")
            return None
        settings = self._settings(kind, prefix, params)
        return None if settings is None else (self._name(prefix, settings), rest)

    def _settings(self, kind: str, prefix: str, params: Section) -> dict[str, Any] | None:
        address = params.text("api_base")
        base_url = params.text("base_url")
        address = address or base_url
        if address is None and (kind == "azure" or prefix in _ADDRESS_NEEDED):
            params.note(
                "api_base", None, "is not there; it has to be, for the provider has no address of its own. The deployment is left out"
            )
            return None
        settings: dict[str, Any] = {"kind": kind}
        if address is not None:
            settings["base_url"] = self._address(kind, address, params)
        key = params.text("api_key")
        if key is not None:
            settings["api_key"] = key
            if not key.startswith("${") and len(key) > len("sk-1234"):
                params.note("api_key", None, "stands in the file as it is; a variable would keep it out of it: ${VAR}")
        elif address is None or kind == "azure":
            variable = _KEYS.get(kind) or next(known.key for known in known_providers() if known.kind == kind)
            if variable is not None:
                settings["api_key"] = f"${{{variable}}}"
        elif kind in ("openai", "anthropic", "gemini"):
            params.note("api_key", None, "is not there: none is shown to this address, where LiteLLM would have shown the provider's own")
        if kind == "azure" and (version := params.take("api_version")) is not None:
            params.note("api_version", version, "is not needed: Azure's v1 API, which is spoken, has no versions")
        return settings

    def _address(self, kind: str, address: str, params: Section) -> str:
        """Where our own would have it: up to what stands before `/chat/completions`."""
        address = address.rstrip("/")
        for end in ("/chat/completions", "/v1/messages", "/completions"):
            address = address.removesuffix(end)
        path = urlsplit(address).path if "://" in address else address.partition("}")[2]
        if kind == "azure" and (host := _HOST.match(address)) is not None and not path.endswith("/openai/v1"):
            if "${" in address:
                params.note(
                    "api_base", None, "is taken to be the resource alone, such as https://NAME.openai.azure.com, without a / at its end"
                )
            return f"{host[1]}/openai/v1"
        if kind in ("ollama", "vllm", "lmstudio", "huggingface") and not path and "${" not in address:
            return f"{address}/v1"
        return address

    def _name(self, prefix: str, settings: dict[str, Any]) -> str:
        name, number = prefix, 1
        while name in self.found and self.found[name] != settings:
            number += 1
            name = f"{prefix}-{number}"
        self.found[name] = settings
        return name
