"""A configuration as YAML that people go on with: short mappings on one line, and what is read again is what was written."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any

#: A mapping up to this stands on one line.
_INLINE_MAX = 100
#: What a text may begin with that is no plain text within a line.
_MARKS = (":", "?", "-")
_SECTIONS_OF_NAMES = ("providers", "models")


def yaml_of(configuration: Mapping[str, Any]) -> str:
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap

    writer = YAML()
    writer.width = 10_000
    writer.indent(mapping=2, sequence=4, offset=2)
    whole = CommentedMap()
    for name, section in configuration.items():
        whole[name] = _by_name(section) if name in _SECTIONS_OF_NAMES and isinstance(section, dict) else _node(section)
    text = StringIO()
    writer.dump(whole, text)
    return text.getvalue()


def _by_name(section: dict[str, Any]) -> Any:
    from ruamel.yaml.comments import CommentedMap

    named = CommentedMap()
    for name, entry in section.items():
        named[name] = _node(entry)
    return named


def _node(value: Any) -> Any:
    """On one line where it fits, but a model's list of deployments."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    match value:
        case dict():
            node: Any = CommentedMap((_node(name), _node(item)) for name, item in value.items())
            fits = "deployments" not in value and len(str(value)) <= _INLINE_MAX
        case list():
            node = CommentedSeq(_node(item) for item in value)
            fits = len(str(value)) <= _INLINE_MAX and not any(isinstance(item, dict) for item in value)
        case str() if value.startswith(_MARKS) or not value.isprintable():  # which the library would not always quote
            return DoubleQuotedScalarString(value)
        case float() if value.is_integer():
            return int(value)
        case _:
            return value
    if fits:
        node.fa.set_flow_style()
    return node
