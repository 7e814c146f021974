"""Examples and the documents' Python run as they are written, against a live gateway that needs no provider."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from agent_gateway.cli.demo import CONFIGURATION
from agent_gateway.control.load import compile_mapping, load
from agent_gateway.control.source import read_file
from agent_gateway.core.call import Call
from agent_gateway.core.clock import SYSTEM_CLOCK
from agent_gateway.core.exchange import Attempt
from agent_gateway.upstream.base import PROVIDERS
from agent_gateway.upstream.transport import Transport
from tests.kit import samples
from tests.kit.client import CHAT, ask
from tests.kit.documents import DEMO_URL, ROOT, Block, blocks_of
from tests.kit.gateway import Gateway
from tests.kit.provider import ScriptedProvider
from tests.kit.recordings import recording

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GROQ_API_KEY", "GATEWAY_ADMIN_KEY")
ENVIRONMENT = dict.fromkeys(KEYS, "sk-0123456789abcdef")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_loads(example: Path) -> None:
    assert load(example, ENVIRONMENT).routes


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


@pytest.mark.parametrize("block", blocks_of("python"))
def test_python_in_a_document_runs(block: Block, live: Gateway, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(block.text.replace(DEMO_URL, live.url))
    assert _output_of(script, {})


async def test_the_readmes_curl_is_answered(live: Gateway) -> None:
    found = re.search(rf"curl -N {DEMO_URL}{CHAT} .*?-d '(.*?)'", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found is not None
    assert samples.decode(found[1])["model"] in read_file(CONFIGURATION)["models"], "the demo serves it too"
    reply = await ask(live.url, CHAT, found[1].encode())
    assert reply.status == 200
    assert reply.frames[-1] == b"data: [DONE]\n\n"


def _output_of(script: Path, env: dict[str, str]) -> str:
    done = subprocess.run([sys.executable, str(script)], env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
