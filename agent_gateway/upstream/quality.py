"""How good an answer is, as far as that shows without reading it: the checks of one formula, and which of them reject."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from agent_gateway.core.call import Call
from agent_gateway.core.delta import NATURAL_ENDS
from agent_gateway.core.settings import Quality as Policy
from agent_gateway.core.usage import Usage

_JSON_STARTS = ("{", "[")


class Facts(Struct, frozen=True):
    """What is known of an answer. `text`: None where it is not (all) text, or not kept."""

    says_something: bool
    finish_reason: str | None
    usage: Usage | None
    text: str | None = None


def score(facts: Facts, call: Call, policy: Policy) -> float:
    """0–1: the mean of the checks that apply: not empty; ended naturally; valid JSON where JSON was asked for; token efficiency
    (completion tokens / total tokens) against its floor, where there is one.
    """
    checks = [float(facts.says_something), float(facts.finish_reason in NATURAL_ENDS)]
    if call.wants_json and facts.text is not None:
        checks.append(float(is_json(facts.text)))
    floor, efficiency = policy.min_token_efficiency, facts.usage.efficiency if facts.usage else None
    if floor and efficiency is not None:
        checks.append(min(efficiency / floor, 1.0))
    return sum(checks) / len(checks)


def objection(facts: Facts, call: Call, policy: Policy) -> str | None:
    """Why the answer is not good enough, for the record; None when it is."""
    if policy.reject_empty and not facts.says_something:
        return "the answer is empty"
    # A call of a tool is no JSON answer, and was not asked to be.
    if call.wants_json and facts.text and facts.finish_reason != "length" and not is_json(facts.text):
        return "the answer is not the JSON that was asked for"
    floor, efficiency = policy.min_token_efficiency, facts.usage.efficiency if facts.usage else None
    if floor is not None and efficiency is not None and efficiency < floor:
        return f"token efficiency {efficiency:.2f} is below {floor:g}"
    return None


def objection_to_start(first_text: str | None, call: Call) -> str | None:
    """What the first content of a stream already shows: JSON that does not begin as JSON."""
    if call.wants_json and first_text and first_text.strip() and not first_text.lstrip().startswith(_JSON_STARTS):
        return "the answer does not begin as the JSON that was asked for"
    return None


def is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
