"""A gateway with many chains: each a model, its fallback model and a provider under script; no two share a deployment, so that
what one of them learns (breakers, cooldowns, the controller's state) is never another's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kit.client import Head, Reply
from tests.kit.configuration import PROVIDER_KEY
from tests.kit.eventually import eventually
from tests.kit.gateway import EdgeName, Gateway
from tests.kit.provider import Heard, Script, ScriptedProvider
from tests.kit.records import Record
from tests.kit.samples import DONE, decode, read_frame

#: The waits of every chain: short, so that a suite of faults is quick; each far below the next, so that it shows which one ended a call.
CONNECT_S = 1.0
FIRST_TOKEN_S = 1.0
IDLE_S = 1.0
ATTEMPT_S = 2.0
TOTAL_S = 15.0
TIMEOUTS = {
    "connect_s": CONNECT_S,
    "first_token_s": FIRST_TOKEN_S,
    "idle_s": IDLE_S,
    "attempt_s": ATTEMPT_S,
    "total_s": TOTAL_S,
}
#: For journeys that are not about any of these waits: a busy machine ends no call.
PATIENT = {**TIMEOUTS, "connect_s": TOTAL_S, "first_token_s": TOTAL_S, "idle_s": TOTAL_S, "attempt_s": TOTAL_S}
PRICE = {"input": 0.15, "output": 0.60}


def deployment(model: str, provider: str = "scripted", **more: Any) -> dict[str, Any]:
    """One that the provider knows by `at_provider(model)`."""
    return {"provider": provider, "model": at_provider(model), "price": PRICE, **more}


def at_provider(model: str) -> str:
    return f"{model}-2024"


def backup_of(model: str) -> str:
    return f"{model}-backup"


def chain(
    model: str,
    provider: str = "scripted",
    backup: str = "scripted",
    *,
    own: dict[str, Any] | None = None,
    others: dict[str, Any] | None = None,
    **policies: Any,
) -> dict[str, Any]:
    """`model` and its fallback; `provider` and `backup` say where their deployments are, `own` and `others` more about these."""
    return {
        model: {"deployments": [deployment(model, provider, **own or {})], "fallbacks": [backup_of(model)], **policies},
        backup_of(model): {"deployments": [deployment(backup_of(model), backup, **others or {})]},
    }


def configuration(base_urls: dict[str, str], models: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """`gateway.yaml` as a value: the defaults, but for waits that a test can wait for."""
    return {
        "state": {"database": "sqlite:///agent-gateway.db"},
        "timeouts": TIMEOUTS,
        "providers": {name: {"kind": "openai", "base_url": url, "api_key": PROVIDER_KEY} for name, url in base_urls.items()},
        "models": models,
        **sections,
    }


class Scripts:
    """What a provider does for each of its models."""

    def __init__(self, provider: ScriptedProvider) -> None:
        self._provider = provider
        self._scripts: dict[str, Script] = {}
        provider.reply_by(lambda heard: self._scripts[heard.json["model"]])

    def play(self, script: Script, *models: str) -> None:
        self._scripts |= {at_provider(model): script for model in models}

    def heard(self, *models: str) -> list[Heard]:
        """The calls of these models, in the order in which they came."""
        names = {at_provider(model) for model in models}
        return [heard for heard in self._provider.heard if heard.json["model"] in names]

    async def over(self) -> None:
        """Nothing that was asked of the provider is left running: what it had not answered, the gateway has hung up on."""
        await eventually(lambda: all(heard.over.is_set() for heard in self._provider.heard), "every call to have ended")


@contextmanager
def running(folder: Path, edge: EdgeName, config: dict[str, Any], env: dict[str, str] | None = None) -> Iterator[Gateway]:
    """A gateway for a module's journeys; it must stop as it should and leave a clean log."""
    gateway = Gateway(folder, config, edge, env)
    try:
        yield gateway.start()
        assert gateway.stop() == 0
        gateway.assert_log_is_clean()
    finally:
        gateway.close()


async def recorded(gateway: Gateway, reply: Reply | str) -> Record:
    """The record of an answer, or of a request id, with `attempts` decoded."""
    request_id = reply if isinstance(reply, str) else reply.headers["x-request-id"]
    record = await eventually(lambda: gateway.record(request_id), "its record")
    return record | {"attempts": decode(record["attempts"] or b"[]")}


def gateway_says(reply: Reply | Head) -> tuple[str | None, ...]:
    """Status, reason and number of attempts."""
    return tuple(reply.headers.get(f"x-gateway-{name}") for name in ("status", "reason", "attempts"))


def text_of(reply: Reply, *, stream: bool) -> str:
    """Of an answer that is complete."""
    if not stream:
        return str(reply.json["choices"][0]["message"]["content"])
    *frames, last = reply.frames
    assert last == DONE
    chunks = [read_frame(frame) for frame in frames]
    assert "error" not in {name for chunk in chunks for name in chunk}
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def outcomes(record: Record) -> list[str]:
    return [attempt["outcome"] for attempt in record["attempts"]]


def last_word_ms(record: Record) -> float:
    """From the end of the last call to the end of the request."""
    return float(record["duration_ms"] - max(attempt["ended_ms"] for attempt in record["attempts"]))


def names(models: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Many models as one mapping."""
    return {name: model for several in models for name, model in several.items()}
