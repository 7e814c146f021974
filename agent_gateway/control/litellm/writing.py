"""A conversion as a file that people go on with, what could not be carried over at its top."""

from __future__ import annotations

from textwrap import fill

from agent_gateway.control.litellm.conversion import Conversion
from agent_gateway.control.yaml_text import yaml_of

_WIDTH = 120


def yaml_text(conversion: Conversion, source: str) -> str:
    """`source`: what was converted, for its first line."""
    return f"{_opening(conversion, source)}\n{yaml_of(conversion.configuration)}"


def _opening(conversion: Conversion, source: str) -> str:
    lines = [f"# Converted from {source} by `agent-gateway import litellm`; `agent-gateway check` tells what came of it."]
    if conversion.variables:
        lines.append(_comment(f"Reads from the environment: {', '.join(conversion.variables)}."))
    if conversion.notes:
        lines += ["#", "# Not carried over as it was:"]
        lines += [_comment(str(note), "# - ") for note in conversion.notes]
    return "\n".join(lines) + "\n"


def _comment(text: str, first: str = "# ") -> str:
    return fill(
        " ".join(text.split()),
        _WIDTH,
        initial_indent=first,
        subsequent_indent="#".ljust(len(first)),
        break_on_hyphens=False,
        break_long_words=False,
    )

