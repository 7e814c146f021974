"""The tables of the documents are the program's: settings of plug-ins, faults, providers, errors, headers, bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import get_args

import msgspec
import pytest

from agent_gateway.batch import submission, synchronous
from agent_gateway.batch.batches import WINDOWS_S
from agent_gateway.batch.engine import LEASE_S
from agent_gateway.control.environment import VARIABLES
from agent_gateway.core.errors import GatewayError, ProviderRefusedRequest
from agent_gateway.core.exchange import Status
from agent_gateway.core.plan import Detour
from agent_gateway.record.base import DATABASE, SINKS
from agent_gateway.record.otlp import naming
from agent_gateway.record.row import Record
from agent_gateway.simulator.batches.faults import Some, Whole, steered_batch
from agent_gateway.simulator.batches.settings import BatchSettings
from agent_gateway.simulator.faults import steered_fault
from agent_gateway.simulator.settings import SimulatorSettings
from agent_gateway.stores.batches import MODELS_MAX, BatchStatus
from agent_gateway.upstream.hedge import LOST_RACE
from agent_gateway.upstream.known_providers import known_providers
from agent_gateway.upstream.room import FULL
from reference.settings import settings
from tests.kit.documents import ROOT


def _settings(struct: type[msgspec.Struct], *leave_out: str) -> dict[str, str]:
    """Every setting's default by its path."""
    return {setting.path: setting.default for setting in settings(struct, leave_out=leave_out)}


def _rows(text: str) -> dict[str, str]:
    """The tables' rows by the first cell's code."""
    return dict(re.findall(r"^\| `([^`]+)`[^|]* \| (.*) \|$", text, re.MULTILINE))


def test_the_simulators_options_and_faults_are_documented() -> None:
    rows = _rows((ROOT / "docs" / "simulator.md").read_text())
    told = {name: row.partition(" | ")[0] for name, row in rows.items() if name.startswith("--")}
    defaults = _settings(SimulatorSettings, "kind") | _settings(BatchSettings)
    assert told == {f"--{name.replace('_', '-')}": default.strip("`") for name, default in defaults.items()}
    names = [name.replace("-N", "-3") for name in rows if not name.startswith(("--", "/"))]
    assert [name for name in names if steered_fault(name) is None and steered_batch(name) is None] == []
    assert {kind for name in names if (fault := steered_batch(name)) for kind in [fault.kind]} == {*get_args(Whole), *get_args(Some)}


@pytest.mark.parametrize("kind", [kind for kind in SINKS.table if kind != DATABASE])
def test_every_setting_of_a_sink_is_documented_with_its_default(kind: str) -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text()
    rows = _rows(re.split(r"\n##", text.partition(f"`kind: {kind}`\n")[2])[0].partition("| attribute |")[0])
    settings = _settings(SINKS.load(kind).Settings, "kind", "name")
    assert {path: row.partition(" | ")[0] for path, row in rows.items()} == settings


def test_every_name_of_opentelemetry_is_documented() -> None:
    rows = _rows((ROOT / "docs" / "monitoring.md").read_text().partition("| attribute | of |")[2])
    for name in naming.NAMES:
        assert rows.pop(name.attribute).partition(" | ")[0] == ", ".join(name.places)
    for one in naming.INSTRUMENTS:
        kind = "sum" if one.bounds is None else "histogram"
        assert rows.pop(one.name) == f"{kind}, `{one.unit}` | {one.description}"
    assert rows == {}


def test_every_known_provider_is_in_the_list() -> None:
    text = (ROOT / "docs" / "providers.md").read_text()
    rows = dict(re.findall(r"^\| \[`(\w+)`\]\((?:.*?)\) \| (.*) \|$", text, re.MULTILINE))
    told = {
        known.kind: f"`{known.base_url or known.address}` | {f'`{known.key}`' if known.key else ''} | "
        + ", ".join(f"`{lack}`" for lack in known.lacks)
        for known in known_providers()
    }
    assert {kind: row.rstrip() for kind, row in rows.items()} == {kind: row.rstrip() for kind, row in told.items()}
    assert re.findall(r"^\| \[`\w+`\]\((.*?)\)", text, re.MULTILINE) == [known.docs for known in known_providers()]


def test_every_error_reason_status_header_and_variable_is_documented() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    rows = _rows(text)

    def errors(parent: type[GatewayError]) -> Iterator[type[GatewayError]]:
        yield parent
        for child in parent.__subclasses__():
            yield from errors(child)

    for error in errors(GatewayError):
        if not issubclass(error, ProviderRefusedRequest):
            assert rows[error.code].startswith(f"{error.status} |"), error.code
        assert error.code in rows
    assert {*get_args(Status), *get_args(Detour), "recovered", FULL, LOST_RACE} <= rows.keys()
    edge = "".join(file.read_text() for file in sorted((ROOT / "agent_gateway" / "edge").glob("*.py")))
    names = {*re.findall(r"x-gateway-[a-z-]+[a-z]", edge), *VARIABLES, *Record._fields}
    assert {name for name in names if f"`{name}`" not in text} == set()


def test_the_bounds_of_batches_are_those_that_hold() -> None:
    text = (ROOT / "docs" / "batching.md").read_text()
    for bound in (
        f"up to {submission.CUSTOM_ID_MAX_LENGTH} characters",
        f"up to {submission.ITEMS_MAX:,} lines",
        f"up to {MODELS_MAX} models",
        f"up to {submission.LINE_BYTES_MAX // 2**20} MB",
        f"up to {submission.ERRORS_MAX} of them",
        f"1 to {synchronous.REQUESTS_MAX:,}",
        f"within {LEASE_S:.0f} seconds",
    ):
        assert bound in text
    assert all(f"`{place}`" in text for place in (*submission.ENDPOINTS, *WINDOWS_S))
    assert all(f"`{status}`" in text for status in get_args(BatchStatus))
