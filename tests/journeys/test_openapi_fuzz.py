"""What the OpenAPI document allows and what it does not, as schemathesis makes it up: a live gateway has no fault and says nothing else."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import status_code_conformance

from agent_gateway.edge.routes import dialect_of
from tests.kit.client import PATIENCE_S
from tests.kit.gateway import EdgeName, Gateway

ADMIN_KEY = "sk-admin-0123456789abcdef"
#: Requests for one operation and mode.
EXAMPLES = 5
#: Goes on until its reader leaves, whatever is asked; test_dashboard_doors.py reads it.
ENDLESS = "/admin/v1/live"
#: Statuses of a gateway at fault; 503 would be a bound or a store, and neither is reached here.
CHECKS = [not_a_server_error, status_code_conformance]


@pytest.fixture(scope="module")
def fuzzed(edge: EdgeName, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(
        tmp_path_factory.mktemp("fuzzed"),
        {
            "auth": {"admin_key": ADMIN_KEY},
            "providers": {"sim": {"kind": "simulated", "ttft_ms": 0, "tokens_per_s": 0, "output_tokens": 5}},
            "models": {"chat": {"deployments": [{"provider": "sim", "model": "small", "price": {"input": 1, "output": 1}}]}},
        },
        edge,
    )
    try:
        yield gateway.start()
        assert gateway.stop() == 0
        gateway.assert_log_is_clean()
    finally:
        gateway.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
def test_nothing_that_is_made_up_finds_a_fault(fuzzed: Gateway, mode: GenerationMode) -> None:
    """The fast lane answers what is asked of models, and hands the rest to the other edge."""
    load_all_checks()
    schema = schemathesis.openapi.from_dict(_fetch(fuzzed))
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) > 40
    finite = [operation for operation in operations if operation.path != ENDLESS]
    its_own = [operation for operation in finite if fuzzed.edge == "asgi" or dialect_of(operation.path.encode())]
    assert len(its_own) > 5
    assert sum(_ask_all(fuzzed, operation, mode) for operation in its_own) > EXAMPLES * 5


def _fetch(gateway: Gateway) -> dict[str, Any]:
    with urllib.request.urlopen(f"{gateway.url}/openapi.json", timeout=PATIENCE_S) as answer:
        document: dict[str, Any] = msgspec.json.decode(answer.read())
    return document


def _ask_all(gateway: Gateway, operation: Any, mode: GenerationMode) -> int:
    asked = 0

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        nonlocal asked
        asked += 1
        headers = {**(case.headers or {}), "authorization": f"Bearer {ADMIN_KEY}"}
        case.call_and_validate(base_url=gateway.url, headers=headers, checks=CHECKS, timeout=PATIENCE_S)

    with suppress(Unsatisfiable):  # of what takes nothing, nothing can be wrong
        ask()
    return asked
