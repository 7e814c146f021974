"""`model_list` → `models`: entries of one name become the deployments of one model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from agent_gateway.control.litellm.providers import Providers
from agent_gateway.control.litellm.section import Note, Section, written_value
from agent_gateway.core.settings import Timeouts

#: Parameters of a request; what a deployment has of them is for clients that leave them out.
_PARAMETERS = (
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "seed",
    "response_format",
    "reasoning_effort",
    "verbosity",
    "service_tier",
    "parallel_tool_calls",
    "tools",
    "tool_choice",
    "thinking",
    "dimensions",
    "encoding_format",
    "store",
    "user",
)
_PRICES = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
}
#: What a model cannot, as `model_info` tells it → as we do.
_NEEDS = {
    "supports_vision": "vision",
    "supports_pdf_input": "documents",
    "supports_audio_input": "audio",
    "supports_function_calling": "tools",
    "supports_response_schema": "json_schema",
    "supports_reasoning": "reasoning",
}
FIGURES = ("weight", "order", "requests_per_minute", "tokens_per_minute", "parallel")
_SERVED = ("chat", "completion", "embedding", "responses")
_NO_CONVERSATION = re.compile(r"(.*/)?(dall-e|gpt-image|whisper|tts-|omni-moderation|text-moderation|rerank)")
_PARAMS_ADVICE = {
    "aws_*": "belongs to Amazon's own API, which is not spoken; it is left out",
    "vertex_*": "belongs to Vertex AI, which is not spoken; it is left out",
    "azure_ad_token": "is no key; Azure is shown an api_key. It is left out",
    "tenant_id": "tokens of Entra ID are not made here; use an api_key. It is left out",
    "client_*": "tokens of Entra ID are not made here; use an api_key. It is left out",
    "organization": "is not sent; use a key of that organization's project",
    "extra_headers": "providers are sent no headers but the key's; it is left out",
    "headers": "providers are sent no headers but the key's; it is left out",
    "mock_response": "is left out; a provider of kind: simulated answers without a model",
    "tags": "requests are not routed by tags; give each tag a model of its own, and keys that may use it (keys create --models)",
    "budget_duration": "providers have no budgets; keys and teams do (keys create --budget)",
    "max_budget": "providers have no budgets; keys and teams do (keys create --budget)",
    "drop_params": "is not needed: parameters go to the provider as they are, or are translated",
}
#: About models, for people and for LiteLLM's own pages.
_QUIET = ("id", "db_model", "description", "version", "created_at", "updated_at", "created_by", "updated_by", "mode")
_INFO_ADVICE = {
    "supports_*": "is known of the model, or is found out by asking; only what a model cannot is configured (lacks)",
    "access_groups": "keys name the models themselves: keys create --models A,B",
    "health_check_*": "no provider is asked for its health; what requests meet tells it",
    "max_*_tokens": "is known of the model from the price table",
    "max_tokens": "is known of the model from the price table",
}


@dataclass(slots=True)
class Entry:
    """One deployment, as we write it, and what is said of it that becomes something of its whole model's. None: nothing is said."""

    deployment: dict[str, Any]
    weight: float | None
    order: float | None
    requests_per_minute: float | None
    tokens_per_minute: float | None
    parallel: float | None


@dataclass(slots=True)
class Group:
    """The entries of one name. `timeouts` and `retries` are the largest that any of them says."""

    entries: list[Entry] = field(default_factory=list)
    timeouts: dict[str, float] = field(default_factory=dict)
    retries: int | None = None

    def said(self, figure: str) -> list[float]:
        return [value for entry in self.entries if (value := getattr(entry, figure)) is not None]

    def said_by_all(self, figure: str) -> list[float] | None:
        said = self.said(figure)
        return said if len(said) == len(self.entries) else None


class ModelList:
    """`groups` by name, in the order of the file."""

    def __init__(self, entries: Sequence[Section], providers: Providers, credentials: Mapping[str, Any], notes: list[Note]) -> None:
        self.groups: dict[str, Group] = {}
        self._providers = providers
        self._credentials = credentials
        self._notes = notes
        named = [(entry, entry.take("model_name")) for entry in entries]
        # Those that stand for all models of a provider go first: clients call these by the provider's name.
        for entry, name in sorted(named, key=lambda each: "*" not in str(each[1])):
            self._read(entry, name)

    def _read(self, entry: Section, name: Any) -> None:
        if not isinstance(name, str) or not name:
            entry.note("model_name", name, "is not a name; the entry is left out")
            return
        params = Section(self._with_credentials(entry), entry.at("litellm_params"), self._notes)
        info = entry.section("model_info")
        entry.end()
        mode, model = info.take("mode"), params.peek("model")
        if (mode is not None and mode not in _SERVED) or _NO_CONVERSATION.match(str(model)):
            params.note(
                "model", model, f"is left out: {mode or 'what it does'} is not served, but conversations, completions and embeddings"
            )
            return
        found = self._providers.of(params)
        if found is None:
            return
        if "*" in name or "*" in found[1]:
            self._note_all_models(params, name, *found)
        else:
            self._add(self.groups.setdefault(name, Group()), found, params, info)
        info.end(_INFO_ADVICE)
        params.end(_PARAMS_ADVICE)

    def _with_credentials(self, entry: Section) -> dict[str, Any]:
        given = entry.take("litellm_params")
        params = dict(given) if isinstance(given, dict) else {}
        name = params.pop("litellm_credential_name", None)
        if name is not None and name not in self._credentials:
            entry.note("litellm_params.litellm_credential_name", name, "is not in credential_list; give the deployment an api_key")
        return {**self._credentials.get(name, {}), **params}

    def _note_all_models(self, params: Section, name: str, provider: str, model: str) -> None:
        if name in ("*", f"{provider}/*") and model == "*":
            known = ", and those that the price table knows by their bare names" if name == "*" else ""
            what = f"needs no entry: {provider}/NAME reaches every model of the provider{known}"
        else:
            what = f"names cannot be rewritten: clients ask for {provider}/NAME, or list each model under models"
        params.note("model", f"{name} → {provider}/{model}", what)

    def _add(self, group: Group, found: tuple[str, str], params: Section, info: Section) -> None:
        provider, model = found
        deployment: dict[str, Any] = {"provider": provider, "model": model}
        price = _price(params, info)
        if price is not None:
            deployment["price"] = price
        base = info.take("base_model")
        if base is not None and price is None:
            info.note("base_model", base, "was its price; where `check` knows none, give the deployment a price: {input: USD, output: USD}")
        if lacks := [need for name, need in _NEEDS.items() if info.take(name) is False]:
            deployment["lacks"] = lacks
        if default := {name: written_value(value) for name in _PARAMETERS if (value := params.take(name)) is not None}:
            deployment["default"] = default
        for name in _QUIET:
            info.take(name)
        _merge_timeouts(group, params)
        _merge_retries(group, params)
        entry = Entry(
            deployment,
            weight=params.positive("weight"),
            order=params.number("order"),
            requests_per_minute=params.count("rpm") or info.count("rpm"),
            tokens_per_minute=params.count("tpm") or info.count("tpm"),
            parallel=params.count("max_parallel_requests"),
        )
        same = next((other for other in group.entries if _is_same(other.deployment, deployment)), None)
        if same is None:
            group.entries.append(entry)
            return
        params.note(
            "model", f"{provider}/{model}", "is there twice with the same address and key; they become one, with the weight of both"
        )
        for figure in FIGURES:
            one, other = getattr(same, figure), getattr(entry, figure)
            setattr(same, figure, None if one is None or other is None else one + other)


def _is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return (one["provider"], one["model"]) == (other["provider"], other["model"])


def _merge_retries(group: Group, params: Section) -> None:
    for name in ("num_retries", "max_retries"):
        if (count := params.number(name)) is not None:
            group.retries = max(int(count), group.retries or 0)


def _merge_timeouts(group: Group, params: Section) -> None:
    for name, value in timeouts(params).items():
        other = group.timeouts.setdefault(name, value)
        if other != value:
            group.timeouts[name] = max(other, value)
            params.note(name, value, f"a model has one for all its deployments; it is {group.timeouts[name]:g} s")


def timeouts(section: Section) -> dict[str, float]:
    """Ours, of those that LiteLLM's sections have in common."""
    found: dict[str, float] = {}
    if (whole := section.positive("timeout")) is not None:
        found["attempt_s"] = whole
    if (stream := section.positive("stream_timeout")) is not None:
        found |= {"first_token_s": stream, "idle_s": stream}
    if (first := section.positive("ttft_timeout")) is not None:
        found["first_token_s"] = first
    if (idle := section.positive("stream_idle_timeout")) is not None:
        found["idle_s"] = idle
    return found


def _price(params: Section, info: Section) -> dict[str, float] | None:
    """Theirs are of one token, ours of a million."""
    given = {ours: params.number(theirs) for ours, theirs in _PRICES.items()}
    told = {ours: info.number(theirs) for ours, theirs in _PRICES.items()}
    price = {ours: value for ours in _PRICES if (value := given[ours] if given[ours] is not None else told[ours]) is not None}
    if not price:
        return None
    if "input" not in price or "output" not in price:
        params.note("input_cost_per_token", None, "and output_cost_per_token are needed both for a price; it is left out")
        return None
    return {ours: float(f"{value * 1_000_000:.10g}") for ours, value in price.items()}


# --- a group → a model ------------------------------------------------------------------------------------------------


def model(group: Group, strategy: str, *, limited: bool) -> dict[str, Any]:
    """`limited`: the deployments' requests and tokens a minute are bounds, and not only their weights."""
    made: dict[str, Any] = {}
    entries = group.entries
    if group.said("order"):
        made["strategy"] = "priority"
        entries = sorted(entries, key=lambda entry: inf if entry.order is None else entry.order)
    elif len(entries) > 1:
        made["strategy"] = strategy
        if strategy == "weighted":
            _weigh(group)
    made["deployments"] = [entry.deployment for entry in entries]
    limits = {
        name: int(sum(said)) for name in ("requests_per_minute", "tokens_per_minute") if limited and (said := group.said_by_all(name))
    }
    if limits:
        made["limits"] = limits
    if parallel := group.said("parallel"):
        made["concurrency"] = {"max": int(min(parallel))}
    if group.timeouts:
        made["timeouts"] = total(group.timeouts)
    return made


def _weigh(group: Group) -> None:
    """By the first figure that all of them have, as LiteLLM does."""
    figures = (group.said_by_all(figure) for figure in ("weight", "requests_per_minute", "tokens_per_minute"))
    weights = next((said for said in figures if said), None)
    if weights is not None and len(set(weights)) > 1:
        for entry, weight in zip(group.entries, weights, strict=True):
            entry.deployment["weight"] = weight


def total(timeouts: dict[str, float]) -> dict[str, float]:
    """The whole request has as long as its longest call, at least."""
    longest = max(timeouts.values(), default=0)
    return timeouts | {"total_s": longest} if longest > Timeouts().total_s else timeouts
