"""What a request adds to its session, and what of the session goes in front of it.

Promise: a client that sends its history along, whole or in part, finds nothing doubled; what was stored is sent as it was stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import Any, TypeAlias

import msgspec
from msgspec import structs

from agent_gateway.core.call import Call
from agent_gateway.core.conversation import Reasoning, Refusal, Text, ToolResult, ToolUse
from agent_gateway.core.errors import GatewayError
from agent_gateway.protocols.base import codec_of
from agent_gateway.protocols.turns import Kind, Turns
from agent_gateway.stores.base import StoredTurn

_json = msgspec.json.Encoder()
#: What two turns have to have in common to be the same one: whatever of it is there, in a form that compares.
Gist: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Merged:
    """All in the request's protocol."""

    #: The request's own instructions, where they stand among its turns.
    system: Sequence[bytes]
    #: What the session puts in front.
    before: Sequence[StoredTurn]
    #: What the session does not have yet.
    new: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class _Run:
    """Turns of one kind that follow each other: how many they are is the client's taste (pieces of a stream, say)."""

    kind: Kind
    start: int
    end: int
    gist: Gist


def merge(call: Call, turns: Turns, stored: Sequence[StoredTurn], *, truncated: bool) -> Merged:
    """`stored`: of the session, in the call's protocol; `truncated`: a summary stands for what came before them.

    A request without an answer of the model's in it adds to the session. One with answers holds a history: where it ends as the session
    does, the rest is new. Where it went another way (an earlier turn was edited, an answer is asked for again), it goes that way: what it
    shares with the session goes in front, and what it does not is new.
    """
    asked = turns.of(call)
    kinds = [turns.kind(turn) for turn in asked]
    instructions = len(list(takewhile(lambda kind: kind == "system", kinds)))
    system, asked = asked[:instructions], asked[instructions:]
    if not stored or "assistant" not in kinds:
        return Merged(system, stored, asked)
    mine, theirs = _runs([turn.body for turn in stored], call, turns), _runs(asked, call, turns)
    known = _known(theirs, mine, truncated=truncated)
    if known:
        return Merged(system, stored, asked[theirs[known - 1].end :])
    if truncated:  # what the summary stands for
        theirs = theirs[next((index for index, their in enumerate(theirs) if their.gist == mine[0].gist), 0) :]
    shared = _shared(theirs, mine)
    if not shared:
        return Merged(system, stored, asked)
    before = [turn for run in shared for turn in stored[run.start : run.end]]
    return Merged(system, before, asked[theirs[len(shared) - 1].end :])


def _known(theirs: Sequence[_Run], mine: Sequence[_Run], *, truncated: bool) -> int:
    """How many of their runs end as mine do; 0: no beginning of theirs does."""
    for end in range(len(theirs), 0, -1):
        if (end <= len(mine) or truncated) and all(
            their.gist == my.gist for their, my in zip(reversed(theirs[:end]), reversed(mine), strict=False)
        ):
            return end
    return 0


def _shared(theirs: Sequence[_Run], mine: Sequence[_Run]) -> list[_Run]:
    """Of mine, those that theirs begins with, in order and up to an answer; others of mine may stand between them."""
    shared: list[_Run] = []
    for my in mine:
        if len(shared) < len(theirs) and theirs[len(shared)].gist == my.gist:
            shared.append(my)
    while shared and shared[-1].kind != "assistant":
        shared.pop()
    return shared


# --- what makes two turns the same ------------------------------------------------------------------------------------


def _runs(all_turns: Sequence[bytes], call: Call, turns: Turns) -> list[_Run]:
    kinds = [turns.kind(turn) for turn in all_turns]
    runs = []
    for kind, places in groupby(range(len(all_turns)), key=kinds.__getitem__):
        start, *more = places
        end = more[-1] + 1 if more else start + 1
        runs.append(_Run(kind, start, end, (kind, *_gist(all_turns[start:end], call, turns))))
    return runs


def _gist(run: Sequence[bytes], call: Call, turns: Turns) -> Gist:
    """Texts, tools called and their results. Thoughts do not count, nor members of a provider's own: clients drop them."""
    try:
        conversation = codec_of(call.dialect).read_conversation(turns.put(_bare(call), run))
    except GatewayError:  # a result read without its call, say
        return tuple(map(msgspec.json.decode, run))
    texts: list[str] = []
    others: list[Any] = []
    for part in [part for turn in conversation.turns for part in turn.parts]:
        match part:
            case Text(text=text) | Refusal(text=text):
                texts.append(text)
            case ToolUse(id=call_id, name=name, arguments=arguments):
                others.append((call_id, name, _value(arguments)))
            case ToolResult(call_id=call_id, content=content):
                others.append((call_id, *[part.text if isinstance(part, Text) else _json.encode(part) for part in content]))
            case Reasoning():
                pass
            case _:
                others.append(_json.encode(part))
    if not (texts or others):
        return tuple(map(msgspec.json.decode, run))
    return ("".join(texts), *others)


def _bare(call: Call) -> Call:
    """Nothing but the turns that are put in."""
    return structs.replace(call, body=b'{"model":"x","max_tokens":1}')


def _value(arguments: str) -> Any:
    try:
        return msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return arguments
