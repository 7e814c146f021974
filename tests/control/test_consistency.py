"""Settings that have to fit together: who may sign tokens, how large bodies may be."""

from __future__ import annotations

import importlib.util

import pytest

from agent_gateway.control import consistency
from tests.control.conftest import Load, Mistakes

TEXT = """
providers: {{sim: {{kind: simulated}}}}
auth: {{require_key: true, jwt: {{audience: gateway, {}}}}}
"""


@pytest.mark.parametrize(
    "issuer", ["https://login.example/realms/a", "https://login.example:8443", "http://127.0.0.1:9000", "http://[::1]:1"]
)
def test_an_issuer_is_asked_where_nobody_stands_in_between(load_text: Load, issuer: str) -> None:
    jwt = load_text(TEXT.format(f"issuer: '{issuer}', jwks_url: '{issuer}/keys?p=b2c'")).settings.auth.jwt
    assert jwt is not None
    assert (jwt.issuer, jwt.algorithms) == (issuer, ("RS256", "ES256"))


@pytest.mark.parametrize("url", ["http://login.example", "login.example", "ftp://login.example", "https://", "https://[", "file:///etc/x"])
def test_other_addresses_are_refused(mistakes: Mistakes, url: str) -> None:
    said = "is not an https address, which nobody in between can change; http is for loopback only"
    assert mistakes(TEXT.format(f"issuer: '{url}'")) == [f"auth.jwt.issuer: {said}"]
    assert mistakes(TEXT.format(f"issuer: 'https://login.example', jwks_url: '{url}'")) == [f"auth.jwt.jwks_url: {said}"]


def test_a_shared_secret_signs_nothing(mistakes: Mistakes) -> None:
    assert "auth.jwt.algorithms" in mistakes(TEXT.format("issuer: 'https://login.example', algorithms: [HS256]"))[0]


def test_without_the_library_it_is_said_at_the_start(mistakes: Mistakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consistency, "find_spec", lambda _: None)
    assert "pip install '.[jwt]'" in mistakes(TEXT.format("issuer: 'https://login.example'"))[0]
    assert importlib.util.find_spec("joserfc") is not None


def test_tokens_that_nobody_needs_are_warned_of(load_text: Load) -> None:
    warnings = load_text(TEXT.replace("true", "false").format("issuer: 'https://login.example'")).warnings
    assert "auth.require_key: is off: who shows no token is let in as well" in warnings


def test_all_bodies_together_can_hold_the_largest_one(mistakes: Mistakes) -> None:
    text = "providers: {sim: {kind: simulated}}\nserver: {body_max_mb: 20, bodies_max_mb: 10}"
    assert mistakes(text) == ["server.bodies_max_mb: is smaller than server.body_max_mb (20): no such body would ever be taken"]


def test_a_database_on_a_server_needs_an_audit_key_that_all_have(load_text: Load) -> None:
    for database, auth, told in (
        ("postgresql://u@h/d", "{}", True),
        ("postgresql://u@h/d", "{audit_key: 0123456789abcdef}", False),
        ("sqlite:///gateway.db", "{}", False),
    ):
        text = f"providers: {{sim: {{kind: simulated}}}}\nauth: {auth}\nstate: {{database: '{database}'}}\n"
        assert any(warning.startswith("auth.audit_key: is not set") for warning in load_text(text).warnings) is told


def test_workers_need_a_database_that_they_share(mistakes: Mistakes, load_text: Load) -> None:
    text = "providers: {sim: {kind: simulated}}\nserver: {workers: 3}\n"
    [said] = mistakes(text + "state: {database: 'sqlite:///:memory:'}")
    assert said.startswith("state.database: is in memory, where each of the 3 workers would have one of its own")
    assert load_text(text).settings.server.workers == 3


CACHING = """
providers: {{sim: {{kind: simulated}}}}
monitoring: {{mode: {}}}
cache: {{exact: {{max_mb: 32}}}}
models: {{a: {{deployments: [{{provider: sim, model: m}}], cache: {{exact: {}}}}}}}
"""


def test_a_cache_where_nothing_is_kept_is_warned_of(load_text: Load) -> None:
    told = "models.a.cache.exact.enabled: does nothing: with monitoring.mode: minimal nothing of what is said is kept"
    for mode, exact, warned in (("minimal", "{enabled: true}", True), ("minimal", "{}", False), ("off", "{enabled: true}", False)):
        assert (told in load_text(CACHING.format(mode, exact)).warnings) is warned


def test_the_memory_of_the_cache_is_no_models_to_set(mistakes: Mistakes, load_text: Load) -> None:
    said = "models.a.cache.exact.max_mb: is of the whole process, for all models; set it under cache.exact"
    assert mistakes(CACHING.format("full", "{max_mb: 8}")) == [said]
    assert load_text(CACHING.format("full", "{ttl_s: 5}")).settings.models["a"].cache.exact.ttl_s == 5
