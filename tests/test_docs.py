"""What the documents and examples say is true: configurations load, links and commands exist, the first request works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_gateway.cli.demo import CONFIGURATION
from agent_gateway.cli.main import COMMANDS
from agent_gateway.control.load import load
from agent_gateway.control.source import read_file
from tests.kit import samples
from tests.kit.client import CHAT, ask
from tests.kit.gateway import Gateway

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
DEMO_URL = "http://127.0.0.1:8080"
ENVIRONMENT = dict.fromkeys(("OPENAI_API_KEY", "GATEWAY_ADMIN_KEY"), "sk-0123456789abcdef")


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
    done = subprocess.run(
        [sys.executable, str(script)], env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
