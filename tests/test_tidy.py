"""The style that a program can check: sizes, names, openings, what may be imported where, and what must never be committed."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "agent_gateway"
TESTS = ROOT / "tests"

FILE_LINES = 600
FUNCTION_LINES = 70
PIPELINE_LINES = 100
OPENING_LINES = 3
LINE_LENGTH = 130
SOURCES = ("agent_gateway", "tests", "benchmarks", "examples", "reference")

EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
#: Folders under tests/ that belong to no single room.
TESTS_OF_NO_ROOM = {"contracts", "journeys", "kit", "recordings", "benchmarks", "deploy", "docs"}

# Spelled in parts, or this file would be found by its own rules.
UNFINISHED = re.compile("|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X:", "pragma: no " + "cover", "NotImplemented" + "Error"]))
MACHINE_PATH = re.compile("|".join(rf"(?<![\w.]){root}/\w" for root in ("/" + "home", "/" + "root", "/" + "Users", "/" + "work")))


def _sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _texts() -> Iterator[Path]:
    """Everything that is committed and meant to be read."""
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.suffix in {".md", ".toml", ".yaml", ""} and path.name != ".git")
    for folder in (".ci", "agent_gateway", "benchmarks", "deploy", "docs", "examples", "reference", "requirements", "tests"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".jsonl", ".json", ""}:
                yield path


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _assert_none(rule: Callable[[Path], Iterator[str]], *folders: str) -> None:
    """No file of these folders breaks it. One test for all: a thousand files times all rules would be more than all other tests."""
    assert [f"{_name(path)}: {broken}" for path in _sources(*folders or SOURCES) for broken in rule(path)] == []


def test_sizes() -> None:
    def too_large(path: Path) -> Iterator[str]:
        lines = path.read_text().count("\n")
        bound = PIPELINE_LINES if path == PACKAGE / "pipeline.py" else FILE_LINES
        if lines > bound:
            yield f"{lines} lines; at most {bound}: one idea a file"
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    yield f"{node.name}: {length} lines; at most {FUNCTION_LINES}"

    _assert_none(too_large)


def test_a_file_is_named_by_its_noun() -> None:
    def says_nothing(path: Path) -> Iterator[str]:
        if path.stem in EMPTY_NAMES or path.stem.endswith(tuple(f"_{name}" for name in EMPTY_NAMES)):
            yield "name it by the one idea that is in it"

    _assert_none(says_nothing)


def test_a_module_opens_with_its_promise() -> None:
    def opens_otherwise(path: Path) -> Iterator[str]:
        docstring = ast.get_docstring(_tree(path))
        if not docstring:
            yield "open with one to three lines: its place in the flow and its one promise"
        elif len(docstring.split("\n\n", 1)[0].splitlines()) > OPENING_LINES:
            yield "the first paragraph is one to three lines"

    _assert_none(opens_otherwise)


def test_json_is_msgspec_and_printing_belongs_to_commands() -> None:
    def does_not(path: Path) -> Iterator[str]:
        for node in ast.walk(_tree(path)):
            match node:
                case ast.Import(names=names) if any(alias.name.split(".")[0] == "json" for alias in names):
                    yield f"line {node.lineno}: use msgspec.json"
                case ast.ImportFrom(module=str(module)) if module.split(".")[0] == "json":
                    yield f"line {node.lineno}: use msgspec.json"
                case ast.Call(func=ast.Name(id="print")):
                    yield f"line {node.lineno}: only a command prints"

    def outside_commands(path: Path) -> Iterator[str]:
        return iter(()) if path.is_relative_to(PACKAGE / "cli") else does_not(path)

    _assert_none(outside_commands, "agent_gateway")


def test_an_assertion_says_what_was_expected() -> None:
    def cannot(path: Path) -> Iterator[str]:
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant):
                yield f"line {node.lineno}: an assertion on a constant cannot say what was expected"

    _assert_none(cannot)


def test_annotations_are_not_evaluated() -> None:
    missing = [
        _name(path)
        for path in _sources("agent_gateway", "tests")
        if len(_tree(path).body) > 1 and "from __future__ import annotations\n" not in path.read_text()
    ]
    assert missing in ([], ["agent_gateway/__init__.py"])


def test_nothing_unfinished_is_committed() -> None:
    found = [f"{_name(path)}: {hit[0]}" for path in _texts() if (hit := UNFINISHED.search(path.read_text(errors="replace")))]
    assert found == []


def test_no_path_of_a_machine_is_committed() -> None:
    found = [f"{_name(path)}: {hit[0]}" for path in _texts() if (hit := MACHINE_PATH.search(path.read_text(errors="replace")))]
    assert found == []


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").glob("*.txt")), ids=_name)
def test_a_lock_holds_names_versions_and_hashes_only(lock: Path) -> None:
    line = re.compile(r"[a-z0-9.\-]+==[\w.]+( ; [\w\s.'()<>=!]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?")
    strange = [text for text in lock.read_text().splitlines() if not line.fullmatch(text)]
    assert strange == []


def test_the_locks_agree_with_each_other_and_with_the_project() -> None:
    run, dev = (_pins(ROOT / "requirements" / name) for name in ("run.txt", "dev.txt"))
    assert run.items() <= dev.items()
    deploy = _pins(ROOT / "requirements" / "deploy.txt")
    assert {name: pin for name, pin in deploy.items() if dev.get(name, pin) != pin} == {}, "they are installed beside each other"
    assert set((ROOT / "requirements" / "deploy.in").read_text().splitlines()[1:]) <= deploy.keys()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[><=\[]", requirement)[0].replace(".", "-") for requirement in declared}
    assert names <= dev.keys()


def _pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.\-]+)==([\w.]+)", lock.read_text(), re.MULTILINE))


def test_tests_mirror_the_package() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir()} | TESTS_OF_NO_ROOM
    folders = {path.name for path in TESTS.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= rooms
