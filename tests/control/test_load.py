"""Whole files in, a configuration or every mistake out."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from agent_gateway.control.errors import ConfigurationError
from agent_gateway.control.load import load
from agent_gateway.control.prices import Catalogue
from agent_gateway.core.settings import Model, Settings
from agent_gateway.upstream.base import PROVIDERS
from agent_gateway.upstream.known_providers import Lack
from tests.control.conftest import Load, Mistakes

EXAMPLE = Path(__file__).with_name("example.yaml").read_text()
KEYS = {"OPENAI_API_KEY": "sk-one", "ANTHROPIC_API_KEY": "sk-two", "GEMINI_API_KEY": "three"}

KINDS = ", ".join(PROVIDERS.names)
STRATEGIES = "weighted, priority, least_busy, lowest_latency, lowest_cost, balanced"
UNKNOWN = "is not under models, nor a known model of a provider with a key"
KEYLESS = "is not set; this provider answers nobody without one; write"
NO_ADDRESS = "is missing; at azure everyone has an address of their own, such as"
NO_DATABASE = "is not a database; use sqlite:///FILE, sqlite:///:memory: or postgresql://user:password@host/database"
ONE_PROVIDER = "providers: {local: {kind: openai, base_url: 'http://127.0.0.1:9/v1', api_key: x}}\n"
DEPLOYMENT = "{provider: local, model: m, price: {input: 1, output: 2}}"


def with_model(settings: str) -> str:
    return f"{ONE_PROVIDER}models:\n  gpt: {{deployments: [{DEPLOYMENT}], {settings}}}\n"


def with_deployments(settings: str) -> str:
    return f"{ONE_PROVIDER}models: {{gpt: {{deployments: [{settings}]}}}}"


def test_written_defaults_are_the_defaults(load_text: Load) -> None:
    settings = load_text(EXAMPLE, KEYS).settings
    assert settings.preset == "support", "its settings are all written out below it"
    assert settings.auth.admin_key is None
    assert settings.auth.require_key is True
    assert settings.state.redis == "redis://127.0.0.1:6379/0"
    for name in Settings.__struct_fields__:
        if name not in ("preset", "auth", "providers", "models", "state"):
            assert getattr(settings, name) == getattr(Settings(), name), name


def test_a_model_inherits_what_it_does_not_say(load_text: Load) -> None:
    text = with_model("timeouts: {first_token_s: 10}, fallback: {quality: {reject_empty: false}}")
    settings = load_text(text + "timeouts: {idle_s: 7}\nfallback: {trigger_rate: 0.5}\n").settings
    model = settings.models["gpt"]
    assert model.timeouts == msgspec.structs.replace(settings.timeouts, first_token_s=10)
    assert model.timeouts.idle_s == 7
    assert model.fallback.trigger_rate == 0.5
    assert model.fallback.quality.reject_empty is False
    assert settings.fallback.quality.reject_empty is True
    assert settings.timeouts.first_token_s == Settings().timeouts.first_token_s


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (with_model("strategy: balancd"), f"models.gpt.strategy: 'balancd' is not one of {STRATEGIES}"),
        (
            with_model("timeouts: {frist_token_s: 1}"),
            "models.gpt.timeouts.frist_token_s: is not a setting; did you mean first_token_s?",
        ),
        (
            with_model("fallbacks: [bakcup]") + "  backup: {deployments: [" + DEPLOYMENT + "]}",
            f"models.gpt.fallbacks[0]: 'bakcup' {UNKNOWN}; did you mean backup?",
        ),
        (with_model("fallbacks: [gpt]"), "models.gpt.fallbacks[0]: is the model itself; name another"),
        (with_model("fallbacks: [local/a, local/a]"), "models.gpt.fallbacks[1]: 'local/a' is there twice; keep one"),
        (with_model("fallbacks: backup"), "models.gpt.fallbacks: 'backup' is not a list; write [backup]"),
        (with_model("fallbacks: 7"), "models.gpt.fallbacks: 7 is not a list; write [a, b]"),
        (
            with_deployments("local/m"),
            "models.gpt.deployments[0]: a text is not a mapping; write {provider: local, model: m}",
        ),
        (
            ONE_PROVIDER + "models: {gpt: {deployments: local/m}}",
            "models.gpt.deployments: 'local/m' is not a list; write [{provider: local, model: m}]",
        ),
        (with_deployments(""), "models.gpt.deployments: is empty; it needs at least one"),
        (ONE_PROVIDER + "models: {gpt: {}}", "models.gpt.deployments: is missing; it has no default"),
        (with_deployments("{model: m}"), "models.gpt.deployments[0].provider: is missing; it has no default"),
        (
            with_deployments("{provider: lokal, model: m}"),
            "models.gpt.deployments[0].provider: 'lokal' is not under providers; did you mean local?",
        ),
        (
            with_deployments(f"{DEPLOYMENT}, {DEPLOYMENT}"),
            "models.gpt.deployments[1]: is local/m again, like deployments[0]; give that one more weight instead",
        ),
        (
            with_deployments("{provider: local, model: m, price: {input: cheap, output: 1}}"),
            "models.gpt.deployments[0].price.input: 'cheap' is not a number",
        ),
        (
            with_deployments("{provider: local, model: m, price: {input: -1, output: 1}}"),
            "models.gpt.deployments[0].price.input: -1 is too small; at least 0",
        ),
        (
            with_deployments("{provider: local, model: m, weight: 0}"),
            "models.gpt.deployments[0].weight: 0 is too small; more than 0",
        ),
        (
            with_deployments("{provider: local, model: m, override: {stream: true}}"),
            "models.gpt.deployments[0].override.stream: is the gateway's to set; leave it out",
        ),
        (ONE_PROVIDER + "models: {1: {}}", "models.1: names are texts; write it in quotes: '1'"),
        (ONE_PROVIDER + "models: [gpt]", "models: a list is not a mapping of names to settings"),
        ("models: {}", "providers: is missing; name at least one, such as openai: {kind: openai, api_key: ${OPENAI_API_KEY}}"),
        ("providers: {x: {kind: openia}}", f"providers.x.kind: 'openia' is not one of {KINDS}"),
        ("providers: {x: {api_key: a}}", f"providers.x.kind: is missing; use one of {KINDS}"),
        ("providers: {x: sk-123}", "providers.x: is not a mapping; write {kind: …, api_key: …}"),
        (
            "providers: {x: {kind: openai, api_kye: a, base_url: 'http://h'}}",
            "providers.x.api_kye: is not a setting; did you mean api_key?",
        ),
        (
            "providers: {x: {kind: openai, api_key: a, api_keys: [b]}}",
            "providers.x.api_keys: is given beside api_key; keep one of them",
        ),
        ("providers: {x: {kind: openai}}", f"providers.x.api_key: {KEYLESS} ${{OPENAI_API_KEY}}"),
        ("providers: {x: {kind: anthropic}}", f"providers.x.api_key: {KEYLESS} ${{ANTHROPIC_API_KEY}}"),
        ("providers: {x: {kind: gemini}}", f"providers.x.api_key: {KEYLESS} ${{GEMINI_API_KEY}}"),
        ("providers: {x: {kind: groq}}", f"providers.x.api_key: {KEYLESS} ${{GROQ_API_KEY}}"),
        (
            "providers: {x: {kind: azure, api_key: a}}",
            f"providers.x.base_url: {NO_ADDRESS} https://RESOURCE.openai.azure.com/openai/v1",
        ),
        (
            "providers: {x: {kind: groq, api_key: a, key_header: 'a: b'}}",
            "providers.x.key_header: is not a header's name",
        ),
        (
            "providers: {x: {kind: groq, api_key: a, lacks: [pictures]}}",
            f"providers.x.lacks[0]: 'pictures' is not one of {', '.join(get_args(Lack))}",
        ),
        (
            with_deployments("{provider: local, model: m, lacks: vision}"),
            "models.gpt.deployments[0].lacks: 'vision' is not a list; write [vision]",
        ),
        (
            'providers: {x: {kind: openai, api_key: "a\\nb"}}',
            "providers.x.api_key: holds characters that cannot go into a header; a key is visible ASCII",
        ),
        ("providers: {x: {kind: openai, api_keys: [a, '']}}", "providers.x.api_keys[1]: is empty"),
        (
            "providers: {x: {kind: openai, api_key: a, base_url: 'ftp://h'}}",
            "providers.x.base_url: is not an address; use http://… or https://…",
        ),
        (
            "providers: {x: {kind: openai, api_key: a, base_url: 'https://u:p@h/v1'}}",
            "providers.x.base_url: holds more than scheme, host, port and path; a key goes into api_key",
        ),
        (
            "providers: {x/y: {kind: openai, api_key: a}}",
            "providers.x/y: a provider's name is made of letters, digits, '.', '_' and '-'",
        ),
        (ONE_PROVIDER + "preset: supprt", "preset: 'supprt' is not one of support, codegen, saver"),
        (ONE_PROVIDER + "servr: {}", "servr: is not a setting; did you mean server?"),
        (ONE_PROVIDER + "server: {port: 99999}", "server.port: 99999 is too large; at most 65535"),
        (ONE_PROVIDER + "server: {port: eighty}", "server.port: 'eighty' is not a whole number"),
        (ONE_PROVIDER + "server: {port: 80.5}", "server.port: 80.5 is not a whole number"),
        (ONE_PROVIDER + "server: {compression: maybe}", "server.compression: 'maybe' is not a yes or no; use true or false"),
        (ONE_PROVIDER + "server: [1]", "server: a list is not a mapping of settings"),
        (
            ONE_PROVIDER + "server: {host: 0.0.0.0}",
            "auth.admin_key: is not set, which is allowed on loopback only, not on 0.0.0.0; set it, or server.host: 127.0.0.1",
        ),
        (ONE_PROVIDER + "timeouts: {total_s: .inf}", "timeouts.total_s: inf is not a number"),
        (ONE_PROVIDER + "timeouts: {total_s: 0}", "timeouts.total_s: 0 is too small; more than 0"),
        (ONE_PROVIDER + "timeouts: {total_s: true}", "timeouts.total_s: true is not a number"),
        (ONE_PROVIDER + "retries: {budget: 1.5}", "retries.budget: 1.5 is too large; at most 1"),
        (ONE_PROVIDER + "fallback: {reply: ''}", "fallback.reply: is empty"),
        (ONE_PROVIDER + "fallback: {model: gpt-5}", f"fallback.model: 'gpt-5' {UNKNOWN}; there are none"),
        (ONE_PROVIDER + "state: {database: 'mysql://root:hunter2@h/d'}", f"state.database: {NO_DATABASE}"),
        (ONE_PROVIDER + "state: {database: 'sqlite://gateway.db'}", f"state.database: {NO_DATABASE}"),
        (ONE_PROVIDER + "state: {database: 'postgresql://root:hunter2@h:one/d'}", f"state.database: {NO_DATABASE}"),
        (ONE_PROVIDER + "state: {redis: 'redis://:hunter2@h:one/0'}", "state.redis: is not a Redis; use redis://host:6379/0"),
        (
            ONE_PROVIDER + "state: {redis: 'redis://:hunter2@h/main'}",
            "state.redis: names a database that is not a number; use redis://host:6379/0",
        ),
        (
            ONE_PROVIDER + "state: {redis: 'redis://:hunter2@h/0?sockets=1'}",
            "state.redis: holds what the client of Redis does not take; write no more than redis://user:password@host:6379/0",
        ),
        (
            "providers: {x: {kind: openai, base_url: 'http://h/v1/chat/completions'}}",
            "providers.x.base_url: ends with /chat/completions, which the gateway puts there itself; leave it out",
        ),
        (ONE_PROVIDER + "sessions: {ttl_s: 1e300}", "sessions.ttl_s: 1e+300 is too large; at most 1000000000000"),
        (ONE_PROVIDER + "limits: {max_parallel: 1000000000001}", "limits.max_parallel: 1000000000001 is too large; at most 1000000000000"),
        (ONE_PROVIDER + "monitoring: {retention_days: 1e12}", "monitoring.retention_days: 1000000000000.0 is too large; at most 36500"),
        (
            ONE_PROVIDER + "auth: {admin_key: 'schlüssel'}",
            "auth.admin_key: holds characters that cannot go into a header; use visible ASCII",
        ),
    ],
)
def test_a_mistake_is_named_with_its_path_and_what_would_be_right(mistakes: Mistakes, text: str, error: str) -> None:
    assert mistakes(text) == [error]


def test_mistakes_of_one_place_come_in_the_same_order_every_time(mistakes: Mistakes) -> None:
    own = "override: {stream_options: {}, stream: true, model: x}"
    text = f"providers: {{a: {{kind: simulated}}}}\nmodels: {{m: {{deployments: [{{provider: a, model: m, {own}}}]}}}}"
    at = "models.m.deployments[0].override"
    assert mistakes(text) == [f"{at}.{name}: is the gateway's to set; leave it out" for name in ("model", "stream", "stream_options")]


def test_every_mistake_is_reported_in_one_run(mistakes: Mistakes) -> None:
    text = """
server: {prot: 1, port: x}
providers: {a: {kind: openia}, b: {kind: openai, base_url: "http://h", api_key: "${NOT_SET}"}}
models:
  one: {strategy: fastest, deployments: [{provider: a, model: m}, {model: n}]}
  two: {deployments: [{provider: b, model: m}], fallbacks: [three]}
limits: {requests_per_minute: 0}
"""
    assert [error.partition(":")[0] for error in mistakes(text)] == [
        "providers.b.api_key",
        "server.prot",
        "server.port",
        "limits.requests_per_minute",
        "providers.a.kind",
        "models.one.strategy",
        "models.one.deployments[1].provider",
        "models.two.fallbacks[0]",
    ]


def test_one_mistake_is_one_error(mistakes: Mistakes) -> None:
    """What refers to a provider or model that is itself wrong is not reported a second time."""
    text = """
providers: {a: {kind: openia}}
models:
  one: {deployments: [{provider: a, model: m}], fallbacks: [two]}
  two: {deployments: []}
"""
    assert [error.partition(":")[0] for error in mistakes(text)] == ["providers.a.kind", "models.two.deployments"]


def test_a_key_whose_variable_is_not_set_is_one_error(mistakes: Mistakes) -> None:
    text = 'providers: {x: {kind: openai, api_key: "${NOT_SET}"}}'
    assert mistakes(text) == ["providers.x.api_key: the environment variable NOT_SET is not set; set it, or write ${NOT_SET:-default}"]


SECRET = "sk-secret-0123456789abcdef"


@pytest.mark.parametrize(
    "text",
    [
        "providers: {x: ${MY_API_KEY}}",
        "providers: {x: {kind: ${MY_API_KEY}}}",
        "providers: {x: {kind: openai, api_keys: ${MY_API_KEY}, base_url: ${MY_API_KEY}}}",
        ONE_PROVIDER + "auth: ${MY_API_KEY}",
        ONE_PROVIDER + "server: {port: ${MY_API_KEY}, compression: ${MY_API_KEY}}",
        ONE_PROVIDER + "state: {database: 'postgres://${MY_API_KEY}@h'}",
        ONE_PROVIDER + "fallback: {model: ${MY_API_KEY}}",
        with_model("fallbacks: ['${MY_API_KEY}'], strategy: ${MY_API_KEY}"),
        with_deployments("{provider: ${MY_API_KEY}, model: m}"),
        ONE_PROVIDER + "alerts: {webhooks: ['h:/${MY_API_KEY}']}",
        f"providers: {{x: {SECRET}}}",
        f"providers: {{x: {{kind: openai, api_key: [{SECRET}]}}}}",
        f"providers: {{x: {{kind: {SECRET}}}}}",
        f"{ONE_PROVIDER}auth: {SECRET}",
        f"{ONE_PROVIDER}auth: {{admin_key: {SECRET}, admin_key: {SECRET}}}",
        f"{ONE_PROVIDER}auth: {{admin_key: '{SECRET}\u00e9'}}",
        f"{ONE_PROVIDER}auth: {{admin_key: *{SECRET}}}",
        f"{ONE_PROVIDER}auth: {{admin_key: {SECRET}",
    ],
)
def test_no_error_shows_a_secret(mistakes: Mistakes, text: str) -> None:
    assert SECRET not in "\n".join(mistakes(text, {"MY_API_KEY": SECRET}))


def test_settings_do_not_show_secrets(load_text: Load) -> None:
    settings = load_text(f"providers: {{x: {{kind: openai, api_key: {SECRET}}}}}\nauth: {{admin_key: {SECRET}}}\n").settings
    assert SECRET not in repr(settings)


def test_values_from_the_environment_are_read_as_their_fields_type(load_text: Load) -> None:
    text = ONE_PROVIDER + (
        'server: {port: "${PORT:-8081}", compression: "${COMPRESSION}"}\nretries: {budget: "${BUDGET}"}\n'
        'fallback: {model: "${FALLBACK:-}"}\nmonitoring: {mode: "${MODE}"}\n'
    )
    settings = load_text(text, {"COMPRESSION": "off", "BUDGET": "0.5", "MODE": "minimal"}).settings
    assert (settings.server.port, settings.server.compression, settings.retries.budget) == (8081, False, 0.5)
    assert settings.fallback.model is None
    assert settings.monitoring.mode == "minimal"


def test_a_quoted_number_in_the_file_stays_a_text(mistakes: Mistakes) -> None:
    assert mistakes(ONE_PROVIDER + "server: {port: '8080'}") == ["server.port: '8080' is not a whole number"]


def test_yaml_words_stay_words_and_false_is_off(load_text: Load) -> None:
    assert load_text(ONE_PROVIDER + "monitoring: {mode: off}").settings.monitoring.mode == "off"
    assert load_text(ONE_PROVIDER + "monitoring: {mode: false}").settings.monitoring.mode == "off"
    assert load_text(ONE_PROVIDER + "server: {compression: no}").settings.server.compression is False
    assert load_text(ONE_PROVIDER + "models: {yes: {deployments: [" + DEPLOYMENT + "]}}").find("yes")


def test_an_empty_section_is_its_defaults(load_text: Load) -> None:
    assert load_text(ONE_PROVIDER + "timeouts:\nmodels:\n").settings.timeouts == Settings().timeouts


def test_an_empty_secret_counts_as_not_set(load_text: Load) -> None:
    text = ONE_PROVIDER + 'auth: {admin_key: "${ADMIN}"}\n'
    assert load_text(text, {"ADMIN": ""}).settings.auth == Settings().auth
    assert load_text(ONE_PROVIDER + "auth: {admin_key: ''}\n").settings.auth.key_required is False


def test_parameters_for_the_provider_keep_their_types(load_text: Load) -> None:
    text = ONE_PROVIDER + (
        "models: {gpt: {deployments: [{provider: local, model: m, price: {input: 0, output: 0}, "
        'default: {temperature: "${T}", stop: [x, "${STOP}"], user: "u-${ID}"}, '
        "override: {max_tokens: 1024, seed: null, on: true}}]}}"
    )
    (deployment,) = load_text(text, {"T": "0.5", "STOP": "end", "ID": "7"}).settings.models["gpt"].deployments
    assert deployment.default == {"temperature": 0.5, "stop": ["x", "end"], "user": "u-7"}
    assert deployment.override == {"max_tokens": 1024, "seed": None, "on": True}


def test_options_of_the_command_are_over_everything(load_text: Load, mistakes: Mistakes) -> None:
    text = ONE_PROVIDER + "server: {port: 9000, host: localhost}\n"
    server = load_text(text, {}, {"server.port": 0, "server.host": None}).settings.server
    assert (server.port, server.host) == (0, "localhost")
    assert mistakes(text, {}, {"server.port": 70000}) == ["server.port (set by --port): 70000 is too large; at most 65535"]


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        (ONE_PROVIDER + "timeouts: {total_s: 3}", []),
        (with_model("timeouts: {total_s: 3}"), []),
        (with_model("timeouts: {total_s: 3}") + "timeouts: {first_token_s: 10}", []),
        (ONE_PROVIDER + "timeouts: {total_s: 3, first_token_s: 10}", ["timeouts.first_token_s"]),
        (with_model("timeouts: {total_s: 3, first_token_s: 10}"), ["models.gpt.timeouts.first_token_s"]),
    ],
)
def test_only_a_first_token_bound_that_was_written_is_warned_of(load_text: Load, text: str, warned: list[str]) -> None:
    warnings = [warning for warning in load_text(text).warnings if "timeouts" in warning]
    assert [warning.partition(":")[0] for warning in warnings] == warned


def test_no_configuration_at_all_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"set OPENAI_API_KEY, ANTHROPIC_API_KEY or GEMINI_API_KEY\. `agent-gateway demo`"):
        load(None, {})


def test_the_environment_alone_serves_every_model_of_its_providers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, catalogue: Catalogue
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {"OPENAI_API_KEY": "sk-one", "ANTHROPIC_API_KEY": "sk-two", "GATEWAY_FALLBACK_MODEL": "gpt-4.5"}
    configuration = load(None, environ, catalogue=lambda: catalogue)
    assert configuration.source is None
    assert configuration.listed == ("claude-haiku", "gpt-4o-mini")
    assert configuration.warnings == ()
    route = configuration.find("gpt-4o-mini")
    assert route is not None
    assert route.fallbacks == ("gpt-4.5",)
    claude = configuration.find("claude-haiku")
    assert claude is not None
    assert [deployment.id for deployment in claude.deployments] == ["anthropic/claude-haiku"]
    assert configuration.find("gemini-2.5-flash") is None, "its provider has no key"


def test_the_file_in_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gateway.yaml").write_text(with_model(""))
    configuration = load(None, {"OPENAI_API_KEY": "unused"})
    assert configuration.source == "gateway.yaml"
    assert isinstance(configuration.settings.models["gpt"], Model)


def test_a_plug_in_that_cannot_be_loaded_is_an_error(mistakes: Mistakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_gateway.core.plugins._installed", lambda seat: {"strange": "no_such_module_here:Plugin"})
    assert mistakes("providers: {x: {kind: strange}}") == [
        "providers.x.kind: the plug-in strange cannot be loaded: No module named 'no_such_module_here'"
    ]


def test_a_strategy_may_have_settings_of_its_own(load_text: Load, mistakes: Mistakes) -> None:
    configured = load_text(with_model("strategy: {kind: balanced, cost: 3}"))
    route = configured.routes["gpt"]
    assert (route.strategy, route.strategy_settings.cost, route.strategy_settings.load) == ("balanced", 3, 1)
    (error,) = mistakes(with_model("strategy: {kind: balanced, cots: 3}"))
    assert error.startswith("models.gpt.strategy.cots: ")
    assert "cost" in error


def test_an_admin_key_that_can_be_guessed_is_warned_of_and_away_from_loopback_refused(load_text: Load, mistakes: Mistakes) -> None:
    said = "auth.admin_key: is shorter than 16 characters; make one that nobody guesses: openssl rand -hex 24"
    short = ONE_PROVIDER + "auth: {admin_key: sk-admin-012345}\n"
    assert load_text(short).warnings == (said,)
    assert mistakes(short + "server: {host: 0.0.0.0}\n") == [said]
    assert load_text(ONE_PROVIDER + "auth: {admin_key: sk-admin-0123456}\nserver: {host: 0.0.0.0}\n").warnings == ()


def test_an_audit_key_that_can_be_guessed_is_refused(load_text: Load, mistakes: Mistakes) -> None:
    said = ["auth.audit_key: is shorter than 16 characters; make one: openssl rand -hex 32"]
    assert mistakes(ONE_PROVIDER + "auth: {audit_key: 0123456789abcde}") == said
    assert load_text(ONE_PROVIDER + "auth: {audit_key: 0123456789abcdef}").settings.auth.audit_key == "0123456789abcdef"
    assert load_text(ONE_PROVIDER + "auth: {audit_key: ''}").settings.auth.audit_key is None
