"""Settings compiled to what a request reads: routes with their prices, and names that are not under `models`, resolved."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, get_args
from urllib.parse import urlsplit

import msgspec

from agent_gateway.control.consistency import is_plain, unknown
from agent_gateway.control.errors import Findings
from agent_gateway.control.presets import PresetSetting
from agent_gateway.control.prices import Catalogue, Known, PricesUnavailable
from agent_gateway.core.call import Need
from agent_gateway.core.pricing import Price
from agent_gateway.core.route import Deployment, Prefill, Route
from agent_gateway.core.settings import POLICIES, DeploymentSettings, Model, Settings
from agent_gateway.upstream.known_providers import Facts, known_provider

#: Names that clients made up are remembered, found or not, this many at a time; longer ones do not exist.
RESOLVED_MAX = 1024
NAME_MAX = 200

_NEEDS: frozenset[Need] = frozenset(get_args(Need))


@dataclass(frozen=True, slots=True)
class Configuration:
    """One configuration, compiled: immutable but for the bounded memory of resolved names."""

    settings: Settings
    #: The file it came from; None: the environment alone.
    source: str | None
    #: What stands there, variables as they are written.
    written: Mapping[str, Any]
    #: What is under `models`, by name.
    routes: Mapping[str, Route]
    #: Names that a client may be told of: those of `routes`; with none, every model that the price table has of these providers.
    listed: tuple[str, ...]
    #: What an operator should know and a start need not fail for: `path: …`.
    warnings: tuple[str, ...]
    #: What `settings.preset` sets, and who went over it.
    preset: tuple[PresetSetting, ...]
    _names: Names

    def find(self, name: str) -> Route | None:
        """The route of a name that a client asked for: under `models`, else `provider/model`, else a known model's bare name."""
        return self.routes.get(name) or self._names.find(name)


@dataclass(slots=True)
class Names:
    """Names that are not under `models`."""

    settings: Settings
    prices: Prices
    _resolved: OrderedDict[str, Route | None] = field(default_factory=OrderedDict)

    def find(self, name: str) -> Route | None:
        resolved = self._resolved
        if name in resolved:
            resolved.move_to_end(name)
            return resolved[name]
        if len(name) > NAME_MAX or not is_plain(name):
            return None
        route = self._resolve(name)
        resolved[name] = route
        if len(resolved) > RESOLVED_MAX:
            resolved.popitem(last=False)
        return route

    def known(self) -> tuple[str, ...]:
        """Every bare name that the price table can resolve to a provider with a key."""
        sellers = {seller for name, seller in self.prices.sellers() if _has_key(self.settings.providers[name])}
        return tuple(dict.fromkeys(model.id for each in self.prices.catalogue.providers if each.id in sellers for model in each.models))

    def _resolve(self, name: str) -> Route | None:
        provider, _, model = name.partition("/")
        if not model or provider not in self.settings.providers:
            model = name
            provider = self._owner(name) or ""
        if not provider:
            return None
        deployment = DeploymentSettings(provider=provider, model=model)
        return compile_route(name, Model(deployments=(deployment,), **_global_policies(self.settings)), self.prices)

    def _owner(self, model: str) -> str | None:
        """The first provider that has a key and whose model it is: its maker, else whoever the price table says has it."""
        keyed = {name: seller for name, seller in self.prices.sellers() if _has_key(self.settings.providers[name])}
        maker = self.prices.catalogue.maker(model)
        makers = (name for name, seller in keyed.items() if seller == maker)
        resellers = (name for name, seller in keyed.items() if self.prices.catalogue.find(model, seller) is not None)
        return next(makers, None) or next(resellers, None)


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices as they are at `at`; they stay until the next reload."""

    providers: Mapping[str, Any]
    catalogue: Catalogue
    at: datetime

    def known(self, provider: str, model: str) -> Known | None:
        """The model as its provider sells it; at an address that the table does not know, as its maker does."""
        seller = self.catalogue.seller_at(getattr(self.providers[provider], "base_url", None) or "")
        return self.catalogue.find(model, seller)

    def is_elsewhere(self, provider: str) -> bool:
        """The provider has an address, which the table does not know."""
        base_url = getattr(self.providers[provider], "base_url", None)
        return base_url is not None and self.catalogue.seller_at(base_url) is None

    def sellers(self) -> Iterator[tuple[str, str]]:
        """Configured providers that the price table knows: name, its id there."""
        for name, provider in self.providers.items():
            seller = self.catalogue.seller_at(getattr(provider, "base_url", None) or "")
            if seller is not None:
                yield name, seller


def compile_configuration(
    settings: Settings,
    source: str | None,
    findings: Findings,
    load_catalogue: Callable[[], Catalogue],
    *,
    written: Mapping[str, Any],
    known_names: frozenset[str],
    preset: tuple[PresetSetting, ...] = (),
) -> Configuration:
    """`written`: what `settings` were made of. `known_names`: every name under `models`, those whose own settings are wrong included (one
    mistake, one error).
    """
    catalogue = Catalogue()
    if needs_catalogue(settings):
        try:
            catalogue = load_catalogue()
        except PricesUnavailable as error:
            findings.warn("models", f"prices and bare model names are unknown: {error}")
    prices = Prices(settings.providers, catalogue, datetime.now(UTC))
    names = Names(settings, prices)
    routes = {name: compile_route(name, model, prices) for name, model in settings.models.items() if _compiles(model, settings)}
    _check_names(settings, names, known_names, findings)
    _warn_of_prices(settings, routes, prices, findings)
    return Configuration(settings, source, written, routes, tuple(routes) or names.known(), tuple(findings.warnings), preset, names)


def needs_catalogue(settings: Settings) -> bool:
    """Whether any price, or any name a client may ask for, depends on the price table."""
    unpriced = any(deployment.price is None for model in settings.models.values() for deployment in model.deployments)
    return unpriced or any(_is_public(getattr(provider, "base_url", None)) for provider in settings.providers.values())


def compile_route(name: str, model: Model, prices: Prices) -> Route:
    """`fallback.model` becomes the chain's last link, unless it is there already or is this route itself."""
    last = model.fallback.model
    fallbacks = model.fallbacks if last is None or last == name or last in model.fallbacks else (*model.fallbacks, last)
    return Route(
        name=name,
        deployments=tuple(_deployment(item, prices) for item in model.deployments),
        strategy=model.strategy if isinstance(model.strategy, str) else model.strategy.kind,
        strategy_settings=None if isinstance(model.strategy, str) else model.strategy,
        fallbacks=fallbacks,
        timeouts=model.timeouts,
        retries=model.retries,
        hedging=model.hedging,
        breaker=model.breaker,
        streaming=model.streaming,
        batching=model.batching,
        fallback=model.fallback,
        sessions=model.sessions,
        concurrency=model.concurrency,
        guards=model.guards,
        cache=model.cache,
        limits=model.limits,
    )


def _deployment(item: DeploymentSettings, prices: Prices) -> Deployment:
    known = prices.known(item.provider, item.model)
    price: Price | None = item.price
    if price is None and known is not None:
        price = known.price(prices.at)
    provider = prices.providers[item.provider]
    row = known_provider(provider.kind, getattr(provider, "base_url", None))
    facts = Facts() if row is None else row.of_model(item.model)
    return Deployment(
        id=f"{item.provider}/{item.model}",
        provider=item.provider,
        model=item.model,
        weight=item.weight,
        price=price,
        context_window=None if known is None else known.context,
        prefill=_prefill(item, provider.kind, facts),
        lacks=_lacks(item, provider, facts),
        only_responses=facts.only_responses,
        output_limit_field=getattr(provider, "output_limit_field", "max_completion_tokens"),
        default=item.default,
        override=item.override,
    )


def _warn_of_prices(settings: Settings, routes: Mapping[str, Route], prices: Prices, findings: Findings) -> None:
    assumed: dict[str, dict[str, None]] = {}
    for name, route in routes.items():
        for index, (item, deployment) in enumerate(zip(settings.models[name].deployments, route.deployments, strict=True)):
            if deployment.price is None:
                at = f"models.{name}.deployments[{index}].price"
                findings.warn(at, f"the price of {deployment.id} is not known: its cost is not counted")
            elif item.price is None and prices.is_elsewhere(item.provider):
                assumed.setdefault(item.provider, {})[item.model] = None
    for provider, models in assumed.items():
        findings.warn(
            f"providers.{provider}",
            f"what it charges is not known, so {', '.join(models)} is counted at its maker's list price; "
            "where that is wrong, give the deployment a price: {input: USD, output: USD} per million tokens",
        )


def _prefill(item: DeploymentSettings, kind: str, facts: Facts) -> Prefill | None:
    if item.prefill is not None:
        return None if item.prefill == "off" else item.prefill
    return "plain" if kind == "simulated" else facts.prefill


def _lacks(item: DeploymentSettings, provider: Any, facts: Facts) -> frozenset[Need]:
    if item.lacks is not None:
        return frozenset(item.lacks)
    return facts.lacks | (_NEEDS & frozenset(getattr(provider, "lacks", ())))


def _check_names(settings: Settings, names: Names, known_names: frozenset[str], findings: Findings) -> None:
    """Every name in a chain leads somewhere. A fallback's own fallbacks are not followed, so two models may name each other."""

    def check(path: str, name: str) -> None:
        if name not in known_names and names.find(name) is None:
            hint = unknown(name, known_names)
            findings.error(path, f"'{name}' is not under models, nor a known model of a provider with a key; {hint}")

    for model_name, model in settings.models.items():
        for index, fallback in enumerate(model.fallbacks):
            check(f"models.{model_name}.fallbacks[{index}]", fallback)
        if model.fallback.model is not None and model.fallback.model != settings.fallback.model:
            check(f"models.{model_name}.fallback.model", model.fallback.model)
        if model.sessions.summary_model is not None and model.sessions.summary_model != settings.sessions.summary_model:
            check(f"models.{model_name}.sessions.summary_model", model.sessions.summary_model)
    if settings.fallback.model is not None:
        check("fallback.model", settings.fallback.model)
    if settings.sessions.summary_model is not None:
        check("sessions.summary_model", settings.sessions.summary_model)


def _compiles(model: Model, settings: Settings) -> bool:
    """False after a mistake that is already reported."""
    return all(deployment.provider in settings.providers for deployment in model.deployments)


def _global_policies(settings: Settings) -> dict[str, Any]:
    return {section: getattr(settings, section) for section in POLICIES}


def _has_key(provider: msgspec.Struct) -> bool:
    return bool(getattr(provider, "api_key", None) or getattr(provider, "api_keys", ()))


def _is_public(base_url: str | None) -> bool:
    if not base_url:
        return False
    try:
        host = urlsplit(base_url).hostname or ""
    except ValueError:
        return False
    return host not in ("localhost", "::1") and not host.startswith("127.")
