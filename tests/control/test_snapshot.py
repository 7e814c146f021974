"""Routes, prices and names, compiled."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_gateway.control.load import load
from agent_gateway.control.prices import Catalogue, PricesUnavailable
from agent_gateway.control.snapshot import NAME_MAX, RESOLVED_MAX
from agent_gateway.core.pricing import Price
from agent_gateway.core.route import Route
from tests.control.conftest import Load, Mistakes

PROVIDERS = """
providers:
  local: {kind: openai, base_url: "http://127.0.0.1:9/v1", api_key: x}
  keyless: {kind: openai, base_url: "https://api.groq.com/keyless"}
  groq: {kind: openai, base_url: "https://api.groq.com/openai/v1", api_key: x}
  main: {kind: openai, api_key: x}
  second: {kind: openai, api_keys: [y]}
"""
MODELS = """
models:
  chat:
    strategy: weighted
    deployments:
      - {provider: main, model: gpt-4o-mini, weight: 3}
      - provider: local
        model: gpt-4o-mini-copy
        price: {input: 0.01, output: 0.02}
        default: {seed: 1}
        override: {max_tokens: 9}
    fallbacks: [backup, groq/llama-3]
    retries: {max_attempts: 7}
  backup:
    deployments: [{provider: local, model: small}]
    fallbacks: [chat]
  embed:
    deployments: [{provider: local, model: gpt-4o-mini-embed}]
    fallback: {model: null}
fallback: {model: backup}
"""


def deployments(route: Route | None) -> list[str]:
    assert route is not None
    return [deployment.id for deployment in route.deployments]


def test_a_route_is_its_model_with_prices(load_text: Load) -> None:
    configuration = load_text(PROVIDERS + MODELS)
    route = configuration.routes["chat"]
    assert (route.name, route.strategy, route.retries.max_attempts) == ("chat", "weighted", 7)
    main, local = route.deployments
    assert (main.id, main.weight, main.price, main.context_window) == (
        "main/gpt-4o-mini",
        3,
        Price(0.15, 0.6, cache_read=0.075),
        128_000,
    )
    assert (local.id, local.price, local.default, local.override) == (
        "local/gpt-4o-mini-copy",
        Price(0.01, 0.02),
        {"seed": 1},
        {"max_tokens": 9},
    )
    assert configuration.listed == ("chat", "backup", "embed")


def test_the_fallback_model_ends_every_chain_that_does_not_refuse_it(load_text: Load) -> None:
    routes = load_text(PROVIDERS + MODELS).routes
    assert routes["chat"].fallbacks == ("backup", "groq/llama-3")
    assert routes["backup"].fallbacks == ("chat",)
    assert routes["embed"].fallbacks == ()
    assert load_text(PROVIDERS + MODELS, {"GATEWAY_FALLBACK_MODEL": "gpt-4.5"}).routes["backup"].fallbacks == ("chat", "gpt-4.5")


def test_what_is_not_known_for_sure_is_said(load_text: Load) -> None:
    assert load_text(PROVIDERS + MODELS).warnings == (
        "models.backup.deployments[0].price: the price of local/small is not known: its cost is not counted",
        (
            "providers.local: what it charges is not known, so gpt-4o-mini-embed is counted at its maker's list price; "
            "where that is wrong, give the deployment a price: {input: USD, output: USD} per million tokens"
        ),
    )


def test_a_price_that_is_assumed_is_said_once_for_all_models_of_a_provider(load_text: Load) -> None:
    model = "{deployments: [{provider: local, model: gpt-4o-mini}]}"
    text = f"providers: {{local: {{kind: openai, base_url: 'http://127.0.0.1:9/v1'}}}}\nmodels: {{a: {model}, b: {model}}}"
    (warning,) = load_text(text).warnings
    assert warning.startswith("providers.local: what it charges is not known, so gpt-4o-mini is counted")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("chat", ["main/gpt-4o-mini", "local/gpt-4o-mini-copy"]),
        ("local/anything", ["local/anything"]),
        ("local/meta/llama", ["local/meta/llama"]),
        ("keyless/llama-3", ["keyless/llama-3"]),
        ("gpt-4o-mini-2024", ["main/gpt-4o-mini-2024"]),
        ("gpt-4.5", ["main/gpt-4.5"]),
        ("llama-3", ["groq/llama-3"]),
    ],
)
def test_a_name_is_found_under_models_then_at_its_provider_then_at_its_maker(load_text: Load, name: str, found: list[str]) -> None:
    assert deployments(load_text(PROVIDERS + MODELS).find(name)) == found


@pytest.mark.parametrize(
    "name",
    [
        "",
        "local/",
        "nowhere/gpt-4o",
        "small",
        "claude-haiku",
        "gpt-4o\r\nx: y",
        "local/a\nb",
        "local/ä",
        "x" * (NAME_MAX + 1),
        "local/" + "x" * NAME_MAX,
    ],
)
def test_other_names_do_not_exist(load_text: Load, name: str) -> None:
    assert load_text(PROVIDERS + MODELS).find(name) is None


def test_a_resolved_name_has_the_global_policies_and_its_price(load_text: Load) -> None:
    configuration = load_text(PROVIDERS + MODELS + "timeouts: {idle_s: 3}\n")
    route = configuration.find("second/gpt-4o-mini")
    assert route is not None
    assert (route.name, route.timeouts.idle_s, route.fallbacks) == ("second/gpt-4o-mini", 3, ("backup",))
    assert route.deployments[0].price == Price(0.15, 0.6, cache_read=0.075)
    assert configuration.find("second/gpt-4o-mini") is route


def test_the_memory_of_names_is_bounded(load_text: Load) -> None:
    configuration = load_text(PROVIDERS)
    first = configuration.find("local/0")
    for number in range(1, RESOLVED_MAX):
        configuration.find(f"local/{number}" if number % 2 else f"unknown-{number}")
    assert configuration.find("local/0") is first
    configuration.find("local/more")
    assert configuration.find("local/0") is first, "the one used last stays"
    assert len(configuration._names._resolved) == RESOLVED_MAX


def test_models_may_fall_back_to_each_other(load_text: Load) -> None:
    text = (
        PROVIDERS
        + """
models:
  a: {deployments: [{provider: local, model: m}], fallbacks: [b]}
  b: {deployments: [{provider: local, model: n}], fallbacks: [a]}
"""
    )
    routes = load_text(text).routes
    assert (routes["a"].fallbacks, routes["b"].fallbacks) == (("b",), ("a",))


def test_a_models_own_fallback_model_must_exist(mistakes: Mistakes) -> None:
    text = PROVIDERS + "models: {a: {deployments: [{provider: local, model: m}], fallback: {model: bb}}}\n"
    (error,) = mistakes(text)
    assert error.startswith("models.a.fallback.model: 'bb' is not under models")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("sessions: {compaction: summary, summary_model: bb}", "sessions.summary_model: 'bb' is not under models"),
        ("sessions: {compaction: summary}", "sessions.summary_model: is not set; with compaction: summary, name the model that"),
    ],
)
def test_summaries_need_a_model_that_exists(mistakes: Mistakes, text: str, error: str) -> None:
    model = PROVIDERS + "models: {a: {deployments: [{provider: local, model: m}]%s}}\n"
    (told,) = mistakes(model % "" + text)
    assert told.startswith(error)
    (told,) = mistakes(model % f", {text}")
    assert told.startswith(f"models.a.{error}")


PRICED = "models: {a: {deployments: [{provider: local, model: m, price: {input: 1, output: 1}}]}}\n"
LOCAL = 'providers: {local: {kind: openai, base_url: "http://127.0.0.1:9/v1"}}\n'


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (LOCAL + PRICED, 0),
        (LOCAL.replace("127.0.0.1", "localhost") + PRICED, 0),
        (LOCAL + PRICED.replace(", price: {input: 1, output: 1}", ""), 1),
        (LOCAL.replace("127.0.0.1", "10.0.0.1") + PRICED, 1),
    ],
)
def test_the_price_table_is_read_only_when_something_depends_on_it(tmp_path: Path, text: str, read: int) -> None:
    reads = []

    def catalogue() -> Catalogue:
        reads.append(1)
        return Catalogue()

    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    load(file, {}, catalogue=catalogue)
    assert len(reads) == read


def test_without_the_price_table_the_gateway_starts_and_says_so(tmp_path: Path) -> None:
    def catalogue() -> Catalogue:
        raise PricesUnavailable("no room for it")

    file = tmp_path / "gateway.yaml"
    file.write_text(PROVIDERS)
    configuration = load(file, {}, catalogue=catalogue)
    assert configuration.warnings == ("models: prices and bare model names are unknown: no room for it",)
    assert deployments(configuration.find("main/gpt-4o-mini")) == ["main/gpt-4o-mini"]
    assert configuration.find("gpt-4o-mini") is None
