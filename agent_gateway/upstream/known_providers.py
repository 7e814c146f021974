"""What is known of providers and of their models: the rows of `known_providers.toml`, read when the configuration is.

A row makes a kind of provider that needs no code, or tells the facts of one that has some.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import msgspec

from agent_gateway.core.call import NO_NEEDS, Need
from agent_gateway.core.route import OutputLimitField, Prefill
from agent_gateway.upstream.origin import Origin

#: What an OpenAI-compatible server may lack: needs of a request, whole endpoints, and several inputs in one call of them.
Lack = Literal[Need, "completions", "embeddings", "several_prompts", "several_inputs"]


class KnownModels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Facts of the models whose whole name `match` describes (a regular expression), and where they are documented."""

    match: str
    source: str
    lacks: frozenset[Need] = NO_NEEDS
    prefill: Prefill | None = None
    only_responses: bool = False


class KnownBatches(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The provider runs batches itself; `api` is a name of the seat `batch_apis`."""

    api: str
    #: What a request costs there, as a share of its price.
    price_share: float
    source: str


class KnownProvider(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: str
    #: Where its API is documented.
    docs: str
    #: None: everyone has an address of their own, which looks like `address`.
    base_url: str | None = None
    address: str | None = None
    #: Its hosts beside the one of `base_url`; those below them are meant too.
    hosts: tuple[str, ...] = ()
    #: The environment variable that its users keep their key in; None: it asks for none.
    key: str | None = None
    #: It has OpenAI's Responses API, whole.
    responses: bool = False
    #: None: every request is asked by itself.
    batches: KnownBatches | None = None
    # Defaults of its settings:
    key_header: str = "authorization"
    output_limit_field: OutputLimitField = "max_tokens"
    lacks: tuple[Lack, ...] = ()
    models: tuple[KnownModels, ...] = ()

    def is_at(self, base_url: str) -> bool:
        """The address is the provider's own. That of a server of one's own says nothing: anything may be there."""
        there, own = _origin(base_url), _origin(self.base_url)
        if there is None or not there.tls:
            return False
        hosts = self.hosts if own is None or own.port != there.port else (own.host, *self.hosts)
        return any(there.host == host or there.host.endswith(f".{host}") for host in hosts)

    def defaults(self) -> dict[str, Any]:
        """Of its settings, by their names."""
        return {"key_header": self.key_header, "output_limit_field": self.output_limit_field, "lacks": self.lacks}

    def of_model(self, model: str) -> Facts:
        """All that is known of one of its models."""
        rows = [row for row in self.models if re.fullmatch(row.match, model)]
        return Facts(
            lacks=NO_NEEDS.union(*(row.lacks for row in rows)),
            prefill=next((row.prefill for row in rows if row.prefill is not None), None),
            only_responses=any(row.only_responses for row in rows),
        )


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Of one model. What is not known counts as there: a provider says best itself what it does not take."""

    lacks: frozenset[Need] = NO_NEEDS
    #: None where nothing is documented: a model that was not made for it begins a new answer instead.
    prefill: Prefill | None = None
    only_responses: bool = False


@cache
def known_providers() -> tuple[KnownProvider, ...]:
    text = (files("agent_gateway.upstream") / "known_providers.toml").read_text("utf-8")
    rows: Mapping[str, tuple[KnownProvider, ...]] = msgspec.toml.decode(text, type=dict[str, tuple[KnownProvider, ...]])
    return rows["providers"]


def known_provider(kind: str, base_url: str | None) -> KnownProvider | None:
    """The row of that kind; of `openai`, which stands for whatever speaks OpenAI's API, the row of whoever is at that address."""
    rows = known_providers()
    if kind == "openai":
        return next((row for row in rows if row.is_at(base_url or "")), None)
    return next((row for row in rows if row.kind == kind), None)


def known_batches(kind: str, base_url: str | None, *, anywhere: bool) -> KnownBatches | None:
    """Of that kind of provider; unless `anywhere`, only where the address is the provider's own."""
    row = next((row for row in known_providers() if row.kind == kind), None)
    return row.batches if row is not None and (anywhere or row.is_at(base_url or "")) else None


def _origin(url: str | None) -> Origin | None:
    try:
        return Origin.from_url(url or "")
    except ValueError:
        return None
