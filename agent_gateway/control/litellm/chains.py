"""Fallbacks: LiteLLM has lists for errors, for prompts that are too long and for refused content; ours is one chain a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from agent_gateway.control.litellm.providers import Providers
from agent_gateway.control.litellm.section import Section


@dataclass(frozen=True, slots=True)
class Chains:
    """By model; `filtered`: those whose refused answers go on to the next."""

    by_model: Mapping[str, list[str]]
    default: list[str]
    filtered: Collection[str]

    def of(self, name: str) -> dict[str, Any]:
        chain = [other for other in self.by_model.get(name, self.default) if other != name]
        found: dict[str, Any] = {"fallbacks": chain} if chain else {}
        if name in self.filtered:
            found["fallback"] = {"on_content_filter": "next"}
        return found


def read_chains(router: Section, library: Section, models: Collection[str], providers: Providers) -> Chains:
    chains: dict[str, list[str]] = {}
    default: list[str] = []
    filtered: list[str] = []
    for section in (router, library):
        reader = _Reader(section, models, providers)
        for name, targets in reader.chains("fallbacks").items():
            chains.setdefault(name, targets)
        default = default or reader.targets("default_fallbacks", section.names("default_fallbacks"))
    default = chains.pop("*", []) or default
    for kind in ("context_window_fallbacks", "content_policy_fallbacks"):
        for section in (router, library):
            for name, targets in _Reader(section, models, providers).chains(kind).items():
                chain = chains.setdefault(name, list(default))
                if added := [target for target in targets if target not in chain]:
                    chain += added
                    section.note(f"{kind}.{name}", added, "went to the end of the model's fallbacks, which other errors lead to as well")
                if kind.startswith("content"):
                    filtered.append(name)
    return Chains(chains, default, filtered)


class _Reader:
    """Of one section; what leads nowhere is noted."""

    def __init__(self, section: Section, models: Collection[str], providers: Providers) -> None:
        self._section = section
        self._models = models
        self._providers = providers

    def chains(self, setting: str) -> dict[str, list[str]]:
        """`[{name: [other, …]}, …]`; `*` is every model that has none."""
        found: dict[str, list[str]] = {}
        for entry in self._section.sections(setting):
            for name in entry.left():
                targets = self.targets(f"{setting}.{name}", entry.names(name))
                if name != "*" and name not in self._models:
                    self._section.note(f"{setting}.{name}", None, "is no model of the list; it is left out")
                elif targets:
                    found.setdefault(name, targets)
        return found

    def targets(self, setting: str, names: list[str]) -> list[str]:
        found = []
        for name in dict.fromkeys(names):
            if name in self._models or name.partition("/")[0] in self._providers.found:
                found.append(name)
            else:
                self._section.note(
                    setting, name, "is neither a model of the list nor PROVIDER/MODEL of one of its providers; it is left out"
                )
        return found
