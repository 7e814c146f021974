"""Every command in a document is understood by the program it is for, and runs against a live gateway where it can.

What cannot be run here stands in `NOT_RUN` with its reason; even that is parsed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_gateway.cli.main import COMMANDS, parser_of
from reference.running import openapi
from tests.kit.demo import Demo
from tests.kit.documents import ADMIN_KEY, DEMO_URL, DOCS, DOCUMENTS, ROOT, Block, blocks, blocks_of, commands_in, lines_of, without_blocks
from tests.kit.gateway import Gateway

#: A command's beginning → why it is not run.
NOT_RUN = {
    ("agent-gateway", "serve"): "runs until it is stopped; the journeys start it",
    ("agent-gateway", "demo"): "listens where others may; tests/cli/test_demo.py runs it",
    ("agent-gateway", "simulate"): "runs until it is stopped; tests/cli/test_simulate.py runs it",
    ("agent-gateway", "bench"): "loads the machine for longer than a test may take",
    ("agent-gateway", "drill"): "takes minutes; tests/cli/test_drill.py runs it",
    ("agent-gateway", "keys", "rotate"): "names a key that only its reader has; tests/cli/test_keys.py runs it",
    ("agent-gateway", "keys", "revoke"): "names a key that only its reader has; tests/cli/test_keys.py runs it",
    ("agent-gateway", "db"): "needs an old database; tests/cli runs it",
    ("make",): "sets up an environment of its own",
    ("pip",): "installs",
    ("git",): "needs a repository",
    ("docker",): "needs a container engine",
    ("kubectl",): "needs a cluster; what it would apply is rendered by tests of its own",
    ("helm",): "needs a cluster; what it would install is rendered by tests of its own",
    ("systemctl",): "needs the machine's own services",
    ("journalctl",): "needs the machine's own services",
    ("python",): "is a script of the repository, whose own tests run it",
}
#: Programs that every machine has.
PLAIN = frozenset(
    {
        "curl",
        "openssl",
        "cat",
        "sed",
        "tr",
        "head",
        "tail",
        "echo",
        "printf",
        "cp",
        "mkdir",
        "ls",
        "cd",
        "jq",
        "kill",
        "id",
        "chmod",
        "grep",
    }
)
#: Folders of the repository whose files commands name.
_FILES = re.compile(r"(?:benchmarks|deploy|docs|examples|tests)/[\w./-]+")

every_script = pytest.mark.parametrize("block", blocks_of("bash", "sh"))


# --- parsed -----------------------------------------------------------------------------------------------------------


@every_script
def test_every_command_is_understood(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 0, done.stderr
    for command in commands_in(block.text):
        program = Path(command[0]).name
        known = program == "agent-gateway" or program in PLAIN or any(beginning[0] == program for beginning in NOT_RUN)
        assert known, f"{program!r}: tests/docs/test_commands.py does not know how to check it"
        _check(program, command)
        named = [path for word in command for path in _FILES.findall(word)]
        assert [path for path in named if not (ROOT / path).exists()] == []


def _check(program: str, command: list[str]) -> None:
    match program:
        case "agent-gateway":
            _parse(command[1:])
        case "curl":
            _check_curl(command)
        case "make":
            targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert {word for word in command[1:] if "=" not in word} <= set(targets)


def _parse(words: list[str]) -> None:
    if words and words[0] in ("--version", "--help"):
        return
    assert words, "agent-gateway asks for a command"
    assert words[0] in COMMANDS
    # A value that only the shell knows is a text like any other.
    parser_of(words[0]).parse_args([word.replace("$", "") if word.startswith("$") else word for word in words[1:]])


_BODY_OPTIONS = ("-d", "--data", "--data-binary", "--json")
_VALUED = (*_BODY_OPTIONS, "-H", "--header", "-X", "--request", "-o", "--output", "-D", "-w", "-u", "--max-time", "-F", "--cacert")


def _check_curl(command: list[str]) -> None:
    """Its address is a path of the gateway's, its body JSON."""
    address, method, body = "", "", None
    words = iter(command[1:])
    for word in words:
        if word in _VALUED or re.fullmatch(r"-[a-zA-Z]*[DoH]", word):
            value = next(words)
            if word in _BODY_OPTIONS:
                body = value
            elif word in ("-X", "--request"):
                method = value
        elif not word.startswith("-"):
            address = word
    host, _, path = address.partition("://")[2].partition("/")
    assert address.startswith("http"), f"{command}: no address"
    if host.partition(":")[0] not in ("127.0.0.1", "localhost"):
        return
    method = method or ("GET" if body is None else "POST")
    assert method.lower() in _methods(f"/{path.partition('?')[0]}"), f"{method} /{path} is not served"
    if body is not None and not body.startswith("@") and "$" not in body:
        msgspec.json.decode(body)


def _methods(path: str) -> dict[str, Any]:
    """Of a path that is served, by their lower-case names."""
    for template, methods in msgspec.json.decode(openapi())["paths"].items():
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)), path):
            return dict(methods)
    return {}


#: CHANGELOG.md tells what was.
_OF_NOW = [document for document in DOCUMENTS if document.name != "CHANGELOG.md"]


@pytest.mark.parametrize("document", _OF_NOW, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_in_the_text_are_served(document: Path) -> None:
    for method, path, query in re.findall(r"`([A-Z]+) (/(?:v1|v1beta|admin)/[^`?…\s]+)(?:\?([^`]*))?`", without_blocks(document)):
        operation = _methods(path).get(method.lower())
        assert operation is not None, f"{method} {path} is not served"
        known = {each["name"] for each in operation["parameters"] if each["in"] == "query"}
        assert {part.partition("=")[0] for part in query.split("&") if part} <= known, f"{method} {path}?{query}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_the_text_exist(document: Path) -> None:
    text = without_blocks(document)
    for command in re.findall(r"`agent-gateway ([a-z][^`]*)`", text):
        words = re.split(r"[\s|/,]+", command)
        assert words[0] in COMMANDS, command
        options = {word.strip("[]().").partition("=")[0] for word in words if word.startswith(("--", "[--"))}
        assert options <= _options(words), command
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"`make ([a-z]+)", text)) <= set(targets)


def _options(words: list[str]) -> set[str]:
    """Of the command and of the actions that follow it."""
    parser = parser_of(words[0])
    found = set(parser._option_string_actions)
    for word in words[1:]:
        actions = next((action for action in parser._actions if isinstance(action, argparse._SubParsersAction)), None)
        if actions is None or word not in actions.choices:
            break
        parser = actions.choices[word]
        found |= set(parser._option_string_actions)
    return found


# --- run --------------------------------------------------------------------------------------------------------------


_SCRIPTS = [case for case in blocks_of("bash", "sh") if case.values[0].document != DOCS / "reference" / "cli.md"]


@pytest.mark.parametrize("block", _SCRIPTS)
def test_a_script_runs(block: Block, live: Gateway) -> None:
    script = block.text.replace("--output gateway.yaml", "--output written.yaml --force")  # the gateway's own is there
    more = {"GATEWAY_ADMIN_KEY": ADMIN_KEY, "OPENAI_API_KEY": "sk-0123456789abcdef"}
    _run(script, live.url, live.config_file, live.folder, more)


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    demo = Demo()
    demo.start()
    yield demo
    assert demo.stop() == (0, "")


@pytest.mark.parametrize("page", sorted((DOCS / "patterns").glob("*.md")), ids=lambda path: path.stem)
def test_who_types_what_a_pattern_shows_gets_it_in_the_demo(page: Path, demo: Demo, tmp_path: Path) -> None:
    """One block after the other, in a folder that is empty at first, with nothing in the environment but what pages tell to put there."""
    for block in blocks([page]):
        if block.language in ("bash", "sh"):
            _run(block.text, demo.url, demo.config_file, tmp_path, {})
    match page.stem:
        case "batching":
            results = [msgspec.json.decode(line) for line in (tmp_path / "requests.results.jsonl").read_bytes().splitlines()]
            assert {each["custom_id"]: each["response"]["status_code"] for each in results} == {"file-1": 200, "file-2": 200}
        case "monitoring":
            assert (tmp_path / "records.jsonl").read_bytes()


def _run(text: str, url: str, config_file: Path, folder: Path, more: dict[str, str]) -> None:
    """Those of the script's lines that can be."""
    lines = [line for line in lines_of(text) if _can_run(line)]
    if not lines:
        return
    script = "\n".join(lines).replace(DEMO_URL, url)
    script = re.sub(r"\bcurl ", "curl -sS --fail-with-body --max-time 20 ", script)
    script = re.sub(r"^(agent-gateway slo.*)$", r"\1 || test $? = 1", script, flags=re.MULTILINE)  # a target may be missed
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GATEWAY_CONFIG": str(config_file),
        "GATEWAY_URL": url,
        "NO_PROXY": "127.0.0.1",
        **more,
    }
    command = ["bash", "-euo", "pipefail", "-c", script.replace("$GATEWAY_ADMIN_KEY", "${GATEWAY_ADMIN_KEY-}")]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{done.stdout}"


def _can_run(line: str) -> bool:
    if "…" in line:  # something that only its reader has
        return False
    return not any(tuple(command[: len(beginning)]) == beginning for command in commands_in(line) for beginning in NOT_RUN)


def test_most_scripts_are_run() -> None:
    scripts = [block for block in blocks() if block.language in ("bash", "sh")]
    run = [block for block in scripts if any(_can_run(line) for line in lines_of(block.text))]
    assert len(run) > 15
