"""Every fenced block says in which language it is, and is what it says: no language is left to nobody."""

from __future__ import annotations

import subprocess
import tomllib
from collections import Counter
from configparser import ConfigParser
from pathlib import Path
from shutil import which

import msgspec
import pytest
from ruamel.yaml import YAML

from agent_gateway.control.load import load
from tests.kit.documents import Block, blocks, blocks_of

#: Each is checked by a test, here or where it says. `text` is what programs print, `http` what a provider may answer.
LANGUAGES = {
    "yaml": "a whole configuration: it is loaded, here",
    "yml": "YAML of another program's: it is read, here",
    "json": "it is read, here",
    "toml": "it is read, here",
    "ini": "it is read, here",
    "javascript": "its syntax is checked, here, where there is Node",
    "py": "a plug-in: it is run by test_examples",
    "python": "it is run by test_examples",
    "bash": "its commands are parsed and run by test_commands",
    "sh": "its commands are parsed and run by test_commands",
    "text": "nothing that anybody types",
    "markdown": "nothing that anybody types",
    "http": "nothing that anybody types",
    "promql": "expressions for Prometheus",
    "nginx": "a part of a configuration of nginx's",
}
#: What every configuration of the documents may read.
ENVIRONMENT = dict.fromkeys(
    (
        *("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GROQ_API_KEY", "GATEWAY_ADMIN_KEY"),
        *("MASTER_KEY", "AZURE_KEY_EU", "AZURE_KEY_US"),
    ),
    "sk-0123456789abcdef",
)


def test_every_block_says_its_language() -> None:
    strange = {block.name: block.language for block in blocks() if block.language not in LANGUAGES}
    assert strange == {}, f"a block begins with ``` and one of {', '.join(LANGUAGES)}"
    assert Counter(block.language for block in blocks())["yaml"] > 10


@pytest.mark.parametrize("block", blocks_of("yaml"))
def test_a_configuration_loads(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import trustme

    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "gateway.yaml"
    file.write_text(block.text)
    assert load(file, ENVIRONMENT).routes


@pytest.mark.parametrize("block", blocks_of("yml", "json", "toml", "ini"))
def test_data_can_be_read(block: Block) -> None:
    read: object
    match block.language:
        case "yml":
            read = list(YAML(typ="safe", pure=True).load_all(block.text))
        case "json":
            read = msgspec.json.decode(block.text)
        case "toml":
            read = tomllib.loads(block.text)
        case _:
            parser = ConfigParser(strict=False, interpolation=None)
            parser.read_string(block.text)
            read = parser.sections()
    assert read


@pytest.mark.parametrize("block", blocks_of("javascript"))
def test_a_script_for_browsers_has_no_mistakes_of_syntax(block: Block, tmp_path: Path) -> None:
    if which("node") is None:
        pytest.skip("there is no Node here")
    script = tmp_path / "script.mjs"
    script.write_text(block.text)
    done = subprocess.run(["node", "--check", str(script)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
