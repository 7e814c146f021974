"""The gateway that the documents' commands and Python are run against."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.kit.documents import ADMIN_KEY, ROOT
from tests.kit.gateway import Gateway

_LITELLM = {"model_list": [{"model_name": "chat", "litellm_params": {"model": "openai/gpt-4o-mini"}}]}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """With what the documents name: files in its folder, a team, keys that are taken and not asked for. It answers at once."""
    deployment = {"provider": "sim", "model": "small", "price": {"input": 0.15, "output": 0.6}}
    config: dict[str, Any] = {
        "auth": {"admin_key": ADMIN_KEY, "require_key": False},
        "providers": {"sim": {"kind": "simulated", "ttft_ms": 1, "tokens_per_s": 0, "output_tokens": 20}},
        "models": {"gpt-4o-mini": {"deployments": [deployment]}},
    }
    gateway = Gateway(tmp_path_factory.mktemp("documents"), config, "fast lane")
    try:
        gateway.start()
        assert gateway.command("keys", "team", "create", "blue").returncode == 0
        shutil.copy(ROOT / "examples" / "batch.jsonl", gateway.folder / "requests.jsonl")
        shutil.copy(gateway.config_file, gateway.folder / "new.yaml")
        (gateway.folder / "config.yaml").write_bytes(msgspec.json.encode(_LITELLM))
        subprocess.run(
            [sys.executable, str(ROOT / "examples" / "first_request.py")], env={**os.environ, "GATEWAY_URL": gateway.url}, check=True
        )
        yield gateway
        assert gateway.stop() == 0
        gateway.assert_log_is_clean()
    finally:
        gateway.close()
