"""What the documents and examples say is true: configurations load, links and commands exist, the first request works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, get_args

import msgspec
import pytest

from agent_gateway.batch import submission, synchronous
from agent_gateway.batch.batches import WINDOWS_S
from agent_gateway.batch.engine import LEASE_S
from agent_gateway.cli.demo import CONFIGURATION
from agent_gateway.cli.main import COMMANDS
from agent_gateway.control.availability import LATER
from agent_gateway.control.environment import VARIABLES
from agent_gateway.control.load import compile_mapping, load
from agent_gateway.control.source import read_file
from agent_gateway.core.call import Call
from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.core.errors import GatewayError, ProviderRefusedRequest
from agent_gateway.core.exchange import Attempt, Status
from agent_gateway.core.plan import Detour
from agent_gateway.core.settings import FIXED_REPLY, POLICIES, DeploymentSettings, Model, Settings
from agent_gateway.record.base import DATABASE, SINKS
from agent_gateway.record.otlp import naming
from agent_gateway.record.row import Record
from agent_gateway.simulator.batches.faults import Some, Whole, steered_batch
from agent_gateway.simulator.batches.settings import BatchSettings
from agent_gateway.simulator.faults import steered_fault
from agent_gateway.simulator.settings import SimulatorSettings
from agent_gateway.stores.batches import MODELS_MAX, BatchStatus
from agent_gateway.upstream.base import PROVIDERS
from agent_gateway.upstream.hedge import LOST_RACE
from agent_gateway.upstream.known_providers import known_providers
from agent_gateway.upstream.providers.anthropic import AnthropicSettings
from agent_gateway.upstream.providers.gemini import GeminiSettings
from agent_gateway.upstream.providers.openai import OpenAISettings
from agent_gateway.upstream.room import FULL
from agent_gateway.upstream.transport import Transport
from tests.kit import samples
from tests.kit.client import CHAT, ask
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider
from tests.kit.recordings import recording

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
DEMO_URL = "http://127.0.0.1:8080"
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GROQ_API_KEY", "GATEWAY_ADMIN_KEY")
ENVIRONMENT = dict.fromkeys(KEYS, "sk-0123456789abcdef")


def _blocks(language: str) -> list[Any]:
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [
        pytest.param(text, id=f"{document.relative_to(ROOT)}-{number}")
        for document in DOCUMENTS
        for number, text in enumerate(fence.findall(document.read_text()))
    ]


every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@pytest.mark.parametrize("text", _blocks("yaml"))
def test_a_configuration_in_a_document_loads(text: str, tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    assert load(file, ENVIRONMENT).routes


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_loads(example: Path) -> None:
    assert load(example, ENVIRONMENT).routes


@every_document
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    missing = [target for target in targets if target and not (document.parent / target).exists()]
    assert missing == []


@every_document
def test_files_that_are_named_exist(document: Path) -> None:
    named = re.findall(r"`((?:agent_gateway|tests|docs|examples|benchmarks)/[\w/.\-]+)`", document.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


@every_document
def test_commands_that_are_named_exist(document: Path) -> None:
    text = document.read_text()
    assert set(re.findall(r"(?:^|`)agent-gateway ([a-z]+)", text, re.MULTILINE)) <= set(COMMANDS)
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE)) <= set(targets)


def _rows(text: str) -> dict[str, str]:
    """The tables' rows by the first cell's code."""
    return dict(re.findall(r"^\| `([^`]+)`[^|]* \| (.*) \|$", text, re.MULTILINE))


def _settings(struct: type[msgspec.Struct], prefix: str = "", leave_out: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Every setting's path and, in JSON, its default."""
    for field in msgspec.structs.fields(struct):
        path = f"{prefix}{field.name}"
        if field.name in leave_out:
            continue
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _settings(field.type, f"{path}.")
        elif field.required:
            yield path, "required"
        else:
            value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            yield path, "the text below" if value == FIXED_REPLY else f"`{msgspec.json.encode(value).decode()}`"


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        ("## Everything", dict(_settings(Settings))),
        ("## A model", dict(_settings(Model, leave_out=POLICIES)) | dict(_settings(DeploymentSettings))),
        ("### `kind: openai`", dict(_settings(OpenAISettings, leave_out=["kind"]))),
        ("### `kind: anthropic`", dict(_settings(AnthropicSettings, leave_out=["kind"]))),
        ("### `kind: gemini`", dict(_settings(GeminiSettings, leave_out=["kind"]))),
        ("### `kind: simulated`", dict(_settings(SimulatorSettings, leave_out=["kind"]))),
    ],
)
def test_every_setting_is_documented_with_its_default(section: str, settings: dict[str, str]) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    rows = _rows(re.split(r"\n##", text.partition(section)[2])[0])
    assert {path: row.partition(" | ")[0] for path, row in rows.items()} == settings
    if section == "## Everything":
        assert FIXED_REPLY in text
        later = {path for path in settings if any(path == name or path.startswith(f"{name}.") for name in LATER)}
        assert {path for path, row in rows.items() if "not available yet" in row} == later


def test_the_simulators_options_and_faults_are_documented() -> None:
    rows = _rows((ROOT / "docs" / "simulator.md").read_text())
    told = {name: row.partition(" | ")[0] for name, row in rows.items() if name.startswith("--")}
    defaults = dict(_settings(SimulatorSettings, leave_out=["kind"])) | dict(_settings(BatchSettings))
    assert told == {f"--{name.replace('_', '-')}": default.strip("`") for name, default in defaults.items()}
    names = [name.replace("-N", "-3") for name in rows if not name.startswith(("--", "/"))]
    assert [name for name in names if steered_fault(name) is None and steered_batch(name) is None] == []
    assert {kind for name in names if (fault := steered_batch(name)) for kind in [fault.kind]} == {*get_args(Whole), *get_args(Some)}


@pytest.mark.parametrize("kind", [kind for kind in SINKS.table if kind != DATABASE])
def test_every_setting_of_a_sink_is_documented_with_its_default(kind: str) -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text()
    rows = _rows(re.split(r"\n##", text.partition(f"`kind: {kind}`\n")[2])[0].partition("| attribute |")[0])
    settings = dict(_settings(SINKS.load(kind).Settings, leave_out=["kind", "name"]))
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


async def test_the_plug_in_of_the_document_is_a_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "providers.md").read_text()
    (code,) = re.findall(r"^```py\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "acme.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    kind, _, place = re.findall(r"^(\w+)( = )\"(acme:\w+)\"$", text, re.MULTILINE)[0]
    monkeypatch.setattr("agent_gateway.core.plugins._installed", lambda seat: {kind: place} if seat == "providers" else {})
    async with ScriptedProvider() as server:
        server.reply(recording("openai/chat").script())
        settings = {"kind": kind, "base_url": f"http://127.0.0.1:{server.port}", "api_key": "x"}
        model = {"deployments": [{"provider": "azure", "model": "my gpt", "price": {"input": 0, "output": 0}}]}
        configuration = compile_mapping({"providers": {"azure": settings}, "models": {"chat": model}})
        transport = Transport(environ={})
        provider = PROVIDERS.load(kind)(configuration.settings.providers["azure"], transport, SYSTEM_CLOCK)
        call, deployment = Call("anthropic", "chat", b"{}"), configuration.routes["chat"].deployments[0]
        until = monotonic() + 20
        attempt, dialect = Attempt(deployment.id, 0.0), provider.speaks(call, deployment)
        answer = await provider.send(call, deployment, attempt, dialect=dialect, body=b"{}", connect_until=until, until=until)
        assert await answer.read(until) == recording("openai/chat").body
        assert server.last.target == "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21"
        assert server.last.headers["api-key"] == "x"
        await transport.close()


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


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """The example that needs no provider."""
    gateway = Gateway(tmp_path, read_file(ROOT / "examples" / "simulated.yaml"), "fast lane")
    try:
        yield gateway.start()
        assert gateway.stop() == 0
        gateway.assert_log_is_clean()
    finally:
        gateway.close()


def test_the_example_of_a_first_request_streams_an_answer(gateway: Gateway) -> None:
    assert _output_of(ROOT / "examples" / "first_request.py", {"GATEWAY_URL": gateway.url})


def test_the_example_of_a_batch_prints_every_answer(gateway: Gateway) -> None:
    told = _output_of(ROOT / "examples" / "batch.py", {"GATEWAY_URL": gateway.url})
    requests = (ROOT / "examples" / "batch.jsonl").read_bytes().splitlines()
    for request in requests:
        assert re.search(rf"^{samples.decode(request)['custom_id']}: \w", told, re.MULTILINE)


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


@pytest.mark.parametrize("text", _blocks("python"))
def test_python_in_a_document_runs(text: str, gateway: Gateway, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(text.replace(DEMO_URL, gateway.url))
    assert _output_of(script, {})


async def test_the_readmes_curl_is_answered(gateway: Gateway) -> None:
    found = re.search(rf"curl -N {DEMO_URL}{CHAT} .*?-d '(.*?)'", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found is not None
    assert samples.decode(found[1])["model"] in CONFIGURATION["models"], "the demo serves it too"
    reply = await ask(gateway.url, CHAT, found[1].encode())
    assert reply.status == 200
    assert reply.frames[-1] == b"data: [DONE]\n\n"


def _output_of(script: Path, env: dict[str, str]) -> str:
    done = subprocess.run([sys.executable, str(script)], env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
