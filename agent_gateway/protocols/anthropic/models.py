"""What Claude models take of the parameters that differ between them: data, by version, with its sources.

A model that is not a Claude (a server that speaks this protocol) is taken for one of before 4.6, the protocol's classic form.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from agent_gateway.core.conversation import Effort

#: How a model is told to think: by a budget of tokens, or to think as it likes within an effort.
ThinkingForm = Literal["budget", "adaptive"]
#: How it is told not to think; None: it cannot be, and the lowest effort is the nearest.
Off = Literal["disabled", "between_tools"]


class Takes(NamedTuple):
    thinking: ThinkingForm
    #: It takes `budget_tokens`.
    budgets: bool
    off: Off | None
    #: It takes `temperature`, `top_p` and `top_k`.
    sampling: bool
    #: The largest `effort` it takes that the gateway has a word for.
    effort_max: Effort = "xhigh"
    #: The largest `max_tokens` it takes; None: more than anybody asks for unasked.
    output_max: int | None = None


_CLASSIC = Takes(thinking="budget", budgets=True, off="disabled", sampling=True)
_VERSION = re.compile(r"claude-(?:(?P<family>[a-z]+)-)?(?P<major>\d{1,2})(?!\d)(?:[-.](?P<minor>\d{1,2})(?!\d))?")
_ALWAYS_THINKING = ("fable", "mythos")
#: Those that end before the others, the first that fits: families ("": any) up to a version, and the largest `max_tokens` they take.
#: Source: Anthropic, "Models overview" and "Legacy models", max output.
_OUTPUT_MAX: tuple[tuple[str, tuple[int, int], int], ...] = (
    ("", (3, 4), 4_096),
    ("", (3, 6), 8_192),
    ("", (3, 7), 64_000),
    ("opus", (4, 1), 32_000),
    ("", (4, 5), 64_000),
)


def takes(model: str) -> Takes:
    """Sources: Anthropic's "Troubleshooting thinking" (forms by model) and its migration guides to Opus 4.7 (sampling parameters gone),
    Opus 5.5 (thinking cannot be disabled) and Sonnet 5.5 (`between_tools`).
    """
    if "claude-mythos-preview" in model:
        return Takes("adaptive", budgets=True, off=None, sampling=False)
    match = _VERSION.search(model)
    if match is None:
        return _CLASSIC
    version = int(match["major"]), int(match["minor"] or 0)
    if version < (4, 6):
        return _CLASSIC._replace(output_max=_output_max(model, version))
    if version == (4, 6):
        return Takes("adaptive", budgets=True, off="disabled", sampling=True, effort_max="high")
    off: Off | None = "disabled"
    if match["family"] in _ALWAYS_THINKING:
        off = None
    elif version >= (5, 5):
        off = None if match["family"] == "opus" else "between_tools"
    return Takes("adaptive", budgets=False, off=off, sampling=False)


def _output_max(model: str, version: tuple[int, int]) -> int | None:
    return next((most for family, last, most in _OUTPUT_MAX if family in model and version <= last), None)
