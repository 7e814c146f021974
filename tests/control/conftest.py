"""A price table small enough to see, and a file to load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent_gateway.control.errors import ConfigurationError
from agent_gateway.control.load import load
from agent_gateway.control.prices import Catalogue, Known, Rates, Seller
from agent_gateway.control.snapshot import Configuration

#: (file text, environment, options) → the configuration.
Load = Callable[..., Configuration]
#: The same → the errors.
Mistakes = Callable[..., list[str]]


@pytest.fixture
def catalogue() -> Catalogue:
    mini = Known("gpt-4o-mini", ["starts_with", "gpt-4o-mini"], (Rates(input=0.15, output=0.6, cache_read=0.075),), 128_000)
    haiku = Known("claude-haiku", ["contains", "haiku"], (Rates(input=1, output=5),), 200_000)
    llama = Known("llama-3", ["equals", "llama-3"], (Rates(input=0.05, output=0.08),))
    return Catalogue(
        (
            Seller("anthropic", r"https://api\.anthropic\.com", ["contains", "claude"], (), (haiku,)),
            Seller("groq", r"https://api\.groq\.com", None, (), (llama,)),
            Seller("openai", r"https://api\.openai\.com", ["starts_with", "gpt-"], (), (mini,)),
        )
    )


@pytest.fixture
def load_text(tmp_path: Path, catalogue: Catalogue) -> Load:
    def from_text(text: str, environ: Mapping[str, str] | None = None, options: Mapping[str, Any] | None = None) -> Configuration:
        file = tmp_path / "gateway.yaml"
        file.write_text(text)
        return load(file, environ or {}, options=options, catalogue=lambda: catalogue)

    return from_text


@pytest.fixture
def mistakes(load_text: Load) -> Mistakes:
    def errors(text: str, environ: Mapping[str, str] | None = None, options: Mapping[str, Any] | None = None) -> list[str]:
        with pytest.raises(ConfigurationError) as caught:
            load_text(text, environ, options)
        return caught.value.errors

    return errors
