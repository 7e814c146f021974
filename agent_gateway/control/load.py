"""`gateway.yaml` and the environment → a `Configuration`, or every mistake in it at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

import msgspec

from agent_gateway.control.consistency import check_parts
from agent_gateway.control.convert import shown, to_struct
from agent_gateway.control.environment import given, providers_in
from agent_gateway.control.errors import Findings
from agent_gateway.control.presets import fill, told
from agent_gateway.control.prices import Catalogue, load_catalogue
from agent_gateway.control.snapshot import Configuration, compile_configuration
from agent_gateway.control.source import Source, parse, read_source
from agent_gateway.core.plugins import TITLE, Seat
from agent_gateway.core.settings import POLICIES, Guards, Model, Monitoring, Settings
from agent_gateway.guard.base import CHECKS, CheckSettings
from agent_gateway.record.base import DATABASE, SINKS, SinkSettings
from agent_gateway.routing.base import STRATEGIES
from agent_gateway.upstream.base import PROVIDERS
from agent_gateway.upstream.known_providers import known_provider

#: Sections whose entries the operator names; the rest are structs.
_NAMED = ("providers", "models")


def load(
    path: str | PathLike[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    options: Mapping[str, Any] | None = None,
    catalogue: Callable[[], Catalogue] | None = None,
) -> Configuration:
    """Raises `ConfigurationError`.

    `options`: a command's own, over everything, such as `{"server.port": 8081}`; None counts as not given.
    `catalogue`: where prices come from when some are needed; the price package by default.
    """
    return compile_source(read_source(path, environ), environ, options=options, catalogue=catalogue)


def compile_source(
    source: Source,
    environ: Mapping[str, str] = os.environ,
    *,
    options: Mapping[str, Any] | None = None,
    catalogue: Callable[[], Catalogue] | None = None,
) -> Configuration:
    """As `load`, of what was read before."""
    raw = {"providers": providers_in(environ)} if source.text is None else parse(source.text, str(source.file))
    return compile_raw(raw, source.file, environ, Findings(), options or {}, catalogue or (lambda: load_catalogue(environ)))


def compile_mapping(raw: dict[str, Any], *, options: Mapping[str, Any] | None = None) -> Configuration:
    """A configuration made by the program itself, of no file and no environment. Raises `ConfigurationError`."""
    return compile_raw(raw, None, {}, Findings(), options or {}, lambda: load_catalogue({}))


def compile_raw(
    written: dict[str, Any],
    file: str | None,
    environ: Mapping[str, str],
    findings: Findings,
    options: Mapping[str, Any],
    catalogue: Callable[[], Catalogue],
) -> Configuration:
    """Every step reports what it can and hands on what is right, so that one run finds every mistake. `file`: what it is called."""
    raw = given(written, environ, options, findings)
    set_by_preset = fill(raw, findings)
    settings, names = _convert(raw, environ, findings)
    check_parts(settings, names["providers"], environ, findings)
    preset = told(settings.preset, set_by_preset, findings)
    configuration = compile_configuration(
        settings, file, findings, catalogue, written=written, known_names=names["models"], preset=preset
    )
    findings.raise_if_any()
    return configuration


def _convert(raw: dict[str, Any], environ: Mapping[str, str], findings: Findings) -> tuple[Settings, dict[str, frozenset[str]]]:
    """The settings as far as they are right, and all the names that the file gives, right or not."""
    settings = to_struct(Settings, {name: value for name, value in raw.items() if name not in _NAMED}, "", findings)
    assert settings is not None, "no field of Settings is required"
    settings = _with(settings, guards=_guards(settings.guards, raw.get("guards"), "guards", findings))
    settings = _with(settings, monitoring=_sinks(settings.monitoring, raw.get("monitoring"), findings))
    entries = {section: _entries(raw, section, findings) for section in _NAMED}
    if not raw.get("providers"):
        findings.error("providers", "is missing; name at least one, such as openai: {kind: openai, api_key: ${OPENAI_API_KEY}}")
    providers = {
        name: made for name, value in entries["providers"].items() if (made := _provider(name, value, environ, findings)) is not None
    }
    policies = {section: getattr(settings, section) for section in POLICIES}
    models = {name: made for name, value in entries["models"].items() if (made := _model(name, value, findings, policies)) is not None}
    names = {section: frozenset(values) for section, values in entries.items()}
    return _with(settings, providers=providers, models=models), names


def _model(name: str, raw: Any, findings: Findings, policies: Mapping[str, Any]) -> Model | None:
    """Its strategy is read in two steps, like a provider: the name, then that plug-in's own struct."""
    path = f"models.{name}"
    strategy = _strategy(raw["strategy"], f"{path}.strategy", findings) if isinstance(raw, dict) and "strategy" in raw else None
    made = to_struct(Model, raw, path, findings, policies)
    if made is None:
        return None
    if "guards" in raw:
        made = msgspec.structs.replace(made, guards=_guards(made.guards, raw["guards"], f"{path}.guards", findings))
    return made if strategy is None else msgspec.structs.replace(made, strategy=strategy)


def _strategy(raw: Any, path: str, findings: Findings) -> Any:
    """A strategy's settings; None when they are wrong, which is then reported."""
    given = raw if isinstance(raw, dict) else {"kind": raw}
    kind = given.get("kind")
    if kind not in STRATEGIES.names:
        findings.error(path, f"{shown(kind, path)} is not one of {', '.join(STRATEGIES.names)}")
        return None
    return to_struct(STRATEGIES.load(kind).Settings, given, path, findings)


def _guards(guards: Guards, raw: Any, path: str, findings: Findings) -> Guards:
    """Each check in two steps, like a provider. A side that is not given stays as it is."""
    for side in Guards.__struct_fields__:
        given = raw.get(side) if isinstance(raw, dict) else None
        if isinstance(given, list):
            checks = [_check(item, side, f"{path}.{side}[{index}]", findings) for index, item in enumerate(given)]
            _check_titles(checks, f"{path}.{side}", findings)
            guards = msgspec.structs.replace(guards, **{side: tuple(check for check in checks if check is not None)})
    return guards


def _check(raw: Any, side: str, path: str, findings: Findings) -> CheckSettings | None:
    """A check's settings; None when they are wrong, which is then reported."""
    plugin = _plugin(CHECKS, raw, path, "{kind: …, action: …}", findings)
    if plugin is None:
        return None
    kind = raw["kind"]
    if side not in plugin.sides:
        findings.error(f"{path}.kind", f"{kind} checks {', '.join(sorted(plugin.sides))} only")
    made: CheckSettings | None = to_struct(plugin.Settings, raw, path, findings)
    return made


def _sinks(monitoring: Monitoring, raw: Any, findings: Findings) -> Monitoring:
    """Each in two steps, as a check; `otlp_endpoint` is one more."""
    given = raw.get("sinks") if isinstance(raw, dict) else None
    sinks = [_sink(item, f"monitoring.sinks[{index}]", findings) for index, item in enumerate(given if isinstance(given, list) else ())]
    if monitoring.otlp_endpoint is not None:
        of_its_own = Findings(secrets=findings.secrets)
        sinks.append(_sink({"kind": "otlp", "endpoint": monitoring.otlp_endpoint}, "", of_its_own))
        for error in of_its_own.errors:
            findings.error("monitoring.otlp_endpoint", error.partition(": ")[2])
    _check_titles(sinks, "monitoring.sinks", findings)
    return msgspec.structs.replace(monitoring, sinks=tuple(sink for sink in sinks if sink is not None))


def _sink(raw: Any, path: str, findings: Findings) -> SinkSettings | None:
    if isinstance(raw, dict) and raw.get("kind") == DATABASE:
        findings.error(f"{path}.kind", "is where records go anyway; state.database says which it is")
        return None
    plugin = _plugin(SINKS, raw, path, "{kind: …}", findings)
    made: SinkSettings | None = None if plugin is None else to_struct(plugin.Settings, raw, path, findings)
    if made is not None and made.title == DATABASE:
        findings.error(f"{path}.name", "is the name of where records go anyway; take another one")
    return made


def _plugin(seat: Seat, raw: Any, path: str, form: str, findings: Findings) -> Any:
    """The plug-in that `kind` names; None when there is none, which is then reported."""
    if not isinstance(raw, dict):
        findings.error(path, f"{shown(raw, path)} is not a mapping; write {form}")
        return None
    kind = raw.get("kind")
    if kind is None:
        findings.error(f"{path}.kind", f"is missing; use one of {', '.join(seat.names)}")
        return None
    if kind not in seat.names:
        findings.error(f"{path}.kind", f"{shown(kind, path)} is not one of {', '.join(seat.names)}")
        return None
    try:
        return seat.load(str(kind))
    except (ImportError, AttributeError) as error:  # one that a third party installed
        findings.error(f"{path}.kind", f"the plug-in {kind} cannot be loaded: {error}")
        return None


def _check_titles(plugins: Sequence[CheckSettings | SinkSettings | None], path: str, findings: Findings) -> None:
    """Errors, headers and metrics tell them apart by these."""
    seen: dict[str, int] = {}
    for index, plugin in enumerate(plugins):
        if plugin is None:
            continue
        if not TITLE.fullmatch(plugin.title):
            findings.error(f"{path}[{index}].name", "is 1 to 32 of a-z, 0-9, '_' and '-'")
        elif plugin.title in seen:
            findings.error(f"{path}[{index}].name", f"is {plugin.title} again, like [{seen[plugin.title]}]; give each a name of its own")
        seen.setdefault(plugin.title, index)


def _entries(raw: dict[str, Any], section: str, findings: Findings) -> dict[str, Any]:
    value = raw.get(section)
    if value is None:
        return {}
    if not isinstance(value, dict):
        findings.error(section, f"{shown(value, section)} is not a mapping of names to settings")
        return {}
    for name in value:
        if not isinstance(name, str):
            findings.error(f"{section}.{name}", f"names are texts; write it in quotes: '{name}'")
    return {name: item for name, item in value.items() if isinstance(name, str)}


def _provider(name: str, raw: Any, environ: Mapping[str, str], findings: Findings) -> Any:
    """In two steps: the kind, then that plug-in's own struct, whose defaults are what is known of the provider. None when it is wrong,
    which is then reported.
    """
    path = f"providers.{name}"
    if not isinstance(raw, dict):
        findings.error(path, "is not a mapping; write {kind: …, api_key: …}")  # a text there may be the key
        return None
    kind = raw.get("kind")
    if kind is None:
        findings.error(f"{path}.kind", f"is missing; use one of {', '.join(PROVIDERS.names)}")
    elif kind not in PROVIDERS.names:
        findings.error(f"{path}.kind", f"{shown(kind, path)} is not one of {', '.join(PROVIDERS.names)}")
    else:
        try:
            plugin = PROVIDERS.load(str(kind))
        except (ImportError, AttributeError) as error:  # one that a third party installed
            findings.error(f"{path}.kind", f"the plug-in {kind} cannot be loaded: {error}")
            return None
        return to_struct(plugin.Settings, raw, path, findings, _known(path, raw, plugin.Settings, environ, findings))
    return None


def _known(path: str, raw: dict[str, Any], plugin: type[msgspec.Struct], environ: Mapping[str, str], findings: Findings) -> dict[str, Any]:
    """Defaults of a provider's settings, from its row in `upstream/known_providers.toml`.

    A kind that is a row alone also has its address from there, and its key from its variable. That a server merely speaks the API of
    `kind: openai` is no reason to show it that key.
    """
    kind, fields = str(raw["kind"]), plugin.__struct_fields__
    own = {field.name: field.default for field in msgspec.structs.fields(plugin)}
    known = known_provider(kind, str(raw.get("base_url") or own.get("base_url") or ""))
    if known is None:
        return {}
    defaults = {name: value for name, value in known.defaults().items() if name in fields}
    if kind in PROVIDERS.table:
        return defaults
    if known.base_url is not None:
        defaults["base_url"] = known.base_url
    elif raw.get("base_url") is None:
        findings.error(f"{path}.base_url", f"is missing; at {kind} everyone has an address of their own, such as {known.address}")
    if known.key is not None and "api_key" not in raw and "api_keys" not in raw and environ.get(known.key):
        findings.secrets.add(environ[known.key])
        findings.origins[f"{path}.api_key"] = known.key
        defaults["api_key"] = environ[known.key]
    return defaults


def _with(settings: Settings, **changed: Any) -> Settings:
    return Settings(**{**{name: getattr(settings, name) for name in settings.__struct_fields__}, **changed})
