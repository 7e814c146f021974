"""Finds the configuration file and reads its YAML 1.2 into plain values; every mistake says line and column, and no value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from agent_gateway.control.errors import ConfigurationError

DEFAULT_FILE = "gateway.yaml"
#: A configuration is written by hand; a file beyond this is a wrong path (bytes).
FILE_MAX_BYTES = 4 * 1024 * 1024
#: The longest token of YAML's own, such as `\\t`.
TOKEN_MAX = 2

#: How the parser names a kind of token.
_TOKEN_KIND = re.compile(r"<(stream|document|block|flow|directive|scalar|alias|anchor|tag)[a-z ]*>")
#: An unquoted reference, from its `$` on: outside quotes YAML takes its brace for a mapping.
_REFERENCE = re.compile(r"\$(\{[A-Za-z_][A-Za-z0-9_]*)")


def find_file(path: str | PathLike[str] | None, environ: Mapping[str, str]) -> Path | None:
    """`path`, else `GATEWAY_CONFIG`, else `./gateway.yaml` if it is there, else None."""
    if path is not None:
        return Path(fspath(path))
    if named := environ.get("GATEWAY_CONFIG"):
        if not Path(named).is_file():
            raise ConfigurationError([f"{named}: is not a file; GATEWAY_CONFIG must name one"])
        return Path(named)
    default = Path(DEFAULT_FILE)
    return default if default.is_file() else None


@dataclass(frozen=True, slots=True)
class Source:
    """A configuration as it was written; None: there is no file, and the environment alone says what there is."""

    file: str | None = None
    text: str | None = None


def read_source(path: str | PathLike[str] | None, environ: Mapping[str, str]) -> Source:
    file = find_file(path, environ)
    return Source() if file is None else Source(str(file), read_text(file))


def read_file(path: Path) -> dict[str, Any]:
    """The file's top-level mapping; an empty file is an empty mapping."""
    return parse(read_text(path), str(path))


def read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigurationError([f"{path}: there is no such file"]) from None
    except OSError as error:
        raise ConfigurationError([f"{path}: cannot be read: {error.strerror}"]) from None
    if len(data) > FILE_MAX_BYTES:
        raise ConfigurationError([f"{path}: is over {FILE_MAX_BYTES // 1024 // 1024} MB, which no configuration is"])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError([f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8"]) from None


def parse(text: str, source: str) -> dict[str, Any]:
    """`source` names the text in errors."""
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        value = YAML(typ="safe", pure=True).load(text)
    except DuplicateKeyError as error:
        line, column = error.problem_mark.line + 1, error.problem_mark.column + 1
        key = _key_at(text, error.problem_mark.line, error.problem_mark.column)
        raise ConfigurationError([f"{source}:{line}:{column}: {key} is there twice; keep one"]) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ConfigurationError(
            [f"{source}{place}: is not YAML: {_without_values(error.problem or 'cannot be read')}{_hint(text, mark)}"]
        ) from None
    except (YAMLError, ValueError) as error:
        raise ConfigurationError([f"{source}: is not YAML: {_without_values(str(error).splitlines()[0])}"]) from None
    except RecursionError:
        raise ConfigurationError([f"{source}: is nested too deeply"]) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigurationError([f"{source}: must be a mapping of sections such as `providers:` and `models:`"])
    return value


def _key_at(text: str, line: int, column: int) -> str:
    found = re.match(r"[\w.\-/@ ]{1,60}", text.splitlines()[line][column:])
    return repr(found.group().strip()) if found else "a key"


def _hint(text: str, mark: Any) -> str:
    """For the commonest mistake: `{api_key: ${FOO}}`, at whose inner brace the parser stops."""
    lines = text.splitlines()
    if mark is None or not mark.column or mark.line >= len(lines):
        return ""
    found = _REFERENCE.match(lines[mark.line], mark.column - 1)
    return f'; quote it: "${found[1]}}}"' if found else ""


def _without_values(problem: str) -> str:
    """The parser quotes what it stumbled over, which may be a secret: it stays up to the first quotation longer than a token."""
    quotations = list(re.finditer(r"(['\"])(.*?)\1", problem))
    longer = [quotation.start() for quotation in quotations if len(quotation[2]) > TOKEN_MAX and not _TOKEN_KIND.fullmatch(quotation[2])]
    unpaired = re.search(r"['\"]", problem) if len(re.findall(r"['\"]", problem)) != 2 * len(quotations) else None
    if unpaired:
        longer.append(unpaired.start())
    return re.sub(r",? but (found|got) *$", "", problem[: min(longer)]).rstrip() if longer else problem
