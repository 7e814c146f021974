"""A gateway with keys and a simulated provider for batches, and the lines of their files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from tests.kit.gateway import Gateway

ADMIN_KEY = "sk-admin-0123456789abcdef"
CHAT = "/v1/chat/completions"
#: How long a call of the model `slow` takes (s).
SLOW_S = 0.4


def configuration(**sections: Any) -> dict[str, Any]:
    """`chat` and `embed` answer at once, `slow` one call at a time, `refusing` never does."""
    price = {"input": 1, "output": 2}
    deployments = {"chat": "small", "embed": "embedding", "slow": f"small:slow-{SLOW_S * 1000:.0f}", "refusing": "small:fail-400"}
    models: dict[str, Any] = {
        name: {"deployments": [{"provider": "sim", "model": model, "price": price}]} for name, model in deployments.items()
    }
    models["slow"]["batching"] = {"concurrency": 1}
    return {
        "auth": {"admin_key": ADMIN_KEY},
        "state": {"database": "sqlite:///agent-gateway.db"},
        "fallback": {"reply": None},
        "providers": {"sim": {"kind": "simulated", "ttft_ms": 0, "tokens_per_s": 0, "jitter": 0, "output_tokens": 10}},
        "models": models,
        **sections,
    }


def new_key(gateway: Gateway, name: str, *options: str) -> str:
    """Its secret."""
    done = gateway.command("keys", "create", name, *options, "--json")
    assert done.returncode == 0, done.stderr
    return str(msgspec.json.decode(done.stdout)["key"])


def asked(text: str, model: str = "chat", **more: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def line(custom_id: str, body: Any, url: str = CHAT) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def chats(count: int, model: str = "chat") -> list[dict[str, Any]]:
    return [line(f"item-{number}", asked(f"Question {number}", model)) for number in range(count)]


def jsonl(lines: Iterable[Any]) -> bytes:
    return b"".join(msgspec.json.encode(each) + b"\n" for each in lines)


def read_jsonl(content: bytes) -> list[Any]:
    return [msgspec.json.decode(each) for each in content.splitlines()]
