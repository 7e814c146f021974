"""A LiteLLM configuration as a whole → ours.

Promise: the result passes `agent-gateway check` once its variables are set, and every setting that is not in it is in `notes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_gateway.control.litellm.advice import GENERAL, LIBRARY, ROUTER, TOP
from agent_gateway.control.litellm.chains import read_chains
from agent_gateway.control.litellm.models import ModelList, model
from agent_gateway.control.litellm.operation import alerts, auth, cache, monitoring, server, state
from agent_gateway.control.litellm.policies import breaker, concurrency, max_attempts, strategy, timeouts
from agent_gateway.control.litellm.providers import Providers
from agent_gateway.control.litellm.section import Note, Section, variables, written_value
from agent_gateway.control.source import read_file


@dataclass(frozen=True, slots=True)
class Conversion:
    """`configuration` as it stands in a file, `${VAR}` and all; `variables`: what it reads from the environment."""

    configuration: dict[str, Any]
    notes: tuple[Note, ...]
    variables: tuple[str, ...]


class NotLiteLLM(ValueError):
    """What was given is no configuration of LiteLLM's proxy."""


def read(path: Path) -> dict[str, Any]:
    """The file with those that it includes: their lists follow its own; else its own word counts. Raises `ConfigurationError`."""
    whole = read_file(path)
    included = whole.pop("include", None)
    for name in [included] if isinstance(included, str) else included or ():
        for setting, value in read_file(path.parent / str(name)).items():
            own = whole.setdefault(setting, value)
            if own is not value and isinstance(own, list) and isinstance(value, list):
                own.extend(value)
            elif own is not value and isinstance(own, dict) and isinstance(value, dict):
                whole[setting] = value | own
    return whole


def convert(raw: Mapping[str, Any]) -> Conversion:
    """`raw`: the file's mapping. `NotLiteLLM` where it names no models that could be served."""
    if not isinstance(raw.get("model_list"), list):
        raise NotLiteLLM("model_list: is not there, or is no list; a configuration of LiteLLM's proxy names its models there")
    notes: list[Note] = []
    top = Section(raw, "", notes)
    providers = Providers()
    listed = ModelList(list(top.sections("model_list")), providers, _credentials(top), notes)
    if not providers.found:
        raise NotLiteLLM("model_list: holds no model that could be served:\n" + "\n".join(map(str, notes)))
    router, library, general = (top.section(name) for name in ("router_settings", "litellm_settings", "general_settings"))
    models = _models(listed, providers, router, library, general)
    for name in top.section("environment_variables").left():
        notes.append(Note(f"environment_variables.{name}", None, "is set where the gateway is started, not in its file"))
    sections = {
        "server": server(general),
        "state": state(router, library, general),
        "auth": auth(general),
        "providers": providers.found,
        "models": models,
        "timeouts": timeouts(router, library),
        "breaker": breaker(router, library),
        "concurrency": concurrency(router, general),
        "cache": (cached := cache(library)),
        "monitoring": monitoring(library, general, cached=bool(cached)),
        "alerts": alerts(general),
    }
    for section, advice in ((router, ROUTER), (library, LIBRARY), (general, GENERAL), (top, TOP)):
        section.end(advice)
    configuration = {name: section for name, section in sections.items() if section}
    return Conversion(configuration, tuple(notes), tuple(sorted(variables(configuration))))


def _models(listed: ModelList, providers: Providers, router: Section, library: Section, general: Section) -> dict[str, Any]:
    """What stands under `models`, each with its fallbacks; aliases are models of their own."""
    chosen, limited = strategy(router, listed)
    made = {name: model(group, chosen, limited=limited) for name, group in listed.groups.items()}
    default = router.take("default_litellm_params")
    for each in made.values():
        for deployment in each["deployments"] if isinstance(default, dict) else ():
            deployment["default"] = {**written_value(default), **deployment.get("default", {})}
    aliases = _aliases(router, made)
    chains = read_chains(router, library, {*made, *aliases}, providers)
    for name, each in made.items():
        each |= chains.of(name)
    retries = {name: group.retries for name, group in listed.groups.items()}
    attempts = max_attempts(router, library, retries, {name: len(each.get("fallbacks", ())) for name, each in made.items()})
    for name, count in attempts.items():
        made[name]["retries"] = {"max_attempts": count}
    for alias, name in aliases.items():
        made[alias] = deepcopy(made[name])
        if alias in made[name].get("fallbacks", ()):
            made[alias]["fallbacks"].remove(alias)
    return made


def _aliases(router: Section, models: Mapping[str, Any]) -> dict[str, str]:
    """Another name → the model's."""
    given = router.section("model_group_alias")
    found = {}
    for alias in given.left():
        value = given.take(alias)
        name = value.get("model") if isinstance(value, dict) else value
        if alias in models:
            given.note(alias, name, "is a model of the list as well; the alias is left out")
        elif name in models:
            found[alias] = str(name)
        else:
            given.note(alias, name, "is no model of the list; the alias is left out")
    return found


def _credentials(top: Section) -> dict[str, dict[str, Any]]:
    found = {}
    for credential in top.sections("credential_list"):
        name, values = credential.take("credential_name"), credential.take("credential_values")
        if isinstance(name, str) and isinstance(values, dict):
            found[name] = values
        else:
            credential.note("credential_name", name, "has no credential_values; it is left out")
        credential.take("credential_info")
        credential.end()
    return found
