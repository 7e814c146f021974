"""A long session told short by a model: written beside, after an answer, and put in the place of the oldest turns, which stay in the store.

Promise: no request waits for a summary, and one that cannot be had changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby, pairwise
from math import inf
from typing import assert_never

import msgspec
from msgspec import structs

from agent_gateway.core.call import Call
from agent_gateway.core.clock import Clock
from agent_gateway.core.conversation import File, Image, Part, Reasoning, Refusal, Text, ToolResult, ToolUse
from agent_gateway.core.errors import Conflict, GatewayError
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.settings import Sessions
from agent_gateway.protocols.base import codec_of
from agent_gateway.protocols.turns import turns_of
from agent_gateway.session.translation import conversation_of, kind_of, stored_turn
from agent_gateway.session.turnstile import Place
from agent_gateway.session.window import newest
from agent_gateway.stores.base import Session, SessionStore, StoredTurn

#: Has a chat call answered: the answer's body. Raises `GatewayError`.
Ask = Callable[[Call], Awaitable[bytes]]

#: A summary is written when so much of the context window, or of `max_messages`, is used; so much is left as it is, the newest.
USED_SHARE = 0.75
LEFT_SHARE = 0.25
#: Summaries being written at once; more wait for a later turn of their session.
WRITTEN_MAX = 8
#: How often a summary is put in place anew when turns were added while it was written.
REPLACES_MAX = 5

INSTRUCTIONS = (
    "Summarize the conversation below, so that it can be gone on from without the original. Keep what was asked for, what was decided, "
    "facts, names, numbers, what tools found out, and what is still open. Write in the language of the conversation. "
    "Answer with the summary alone."
)
HEADING = "Summary of the conversation so far:\n\n"

_json = msgspec.json.Encoder()
_log = logging.getLogger("agent_gateway.session")


class Summaries:
    def __init__(self, store: SessionStore, clock: Clock, ask: Ask) -> None:
        self._store = store
        self._clock = clock
        self._ask = ask
        self._tasks: dict[Place, asyncio.Task[None]] = {}

    def consider(self, place: Place, exchange: Exchange) -> None:
        """After an answer that was kept."""
        assert exchange.route is not None
        policy = exchange.route.sessions
        if policy.compaction != "summary" or place in self._tasks or len(self._tasks) >= WRITTEN_MAX:
            return
        task = asyncio.get_running_loop().create_task(self._write(place, policy, _window(exchange)))
        self._tasks[place] = task
        task.add_done_callback(lambda _: self._tasks.pop(place))

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, place: Place, policy: Sessions, window: int | None) -> None:
        try:
            session = await self._store.fetch(*place, self._clock.wall())
            told = 0 if session is None else _turns_to_tell(session, policy, window)
            if session is None or not told:
                return
            assert policy.summary_model is not None  # checked with the configuration
            text = await self._asked(policy.summary_model, session, told)
            if text:
                await self._put(place, session, told, text)
        except GatewayError as error:
            _log.warning("a session was not summarized: %s", error.detail or error.message)
        except Exception:
            _log.exception("a session was not summarized, by a fault of the gateway")

    async def _asked(self, model: str, session: Session, told: int) -> str:
        told_turns = [*([session.summary] if session.summary else []), *session.turns[:told]]
        body = {
            "model": model,
            "messages": [
                {"role": "system", "content": INSTRUCTIONS},
                {"role": "user", "content": "\n\n".join(_lines(told_turns))},
            ],
        }
        call = codec_of("openai_chat").read_call(_json.encode(body), {}, "")
        # It holds what the user said: its record is found by the user's name, should all of that be erased.
        answer = await self._ask(structs.replace(call, user=session.info.owner.user or None))
        chat = turns_of("openai_chat")
        assert chat is not None
        turns = conversation_of([StoredTurn("openai_chat", turn) for turn in chat.answer(answer)]).turns
        return "".join([part.text for turn in turns for part in turn.parts if isinstance(part, Text)])

    async def _put(self, place: Place, session: Session, told: int, text: str) -> None:
        """Turns that were added meanwhile stand behind those that the summary tells."""
        summary = stored_turn("openai_chat", _json.encode({"role": "user", "content": HEADING + text}))
        summarized, before = session.info.summarized, session.places[told - 1] + 1
        current: Session | None = session
        for _ in range(REPLACES_MAX):
            if current is None or current.info.summarized != summarized:
                return
            if not set(session.places[:told]) <= set(current.places):  # it tells what was deleted meanwhile
                return
            with suppress(Conflict):
                version, now = current.info.version, self._clock.wall()
                await self._store.replace_by_summary(*place, summary, before=before, expected_version=version, now=now)
                return
            current = await self._store.fetch(*place, self._clock.wall())


def _window(exchange: Exchange) -> int | None:
    """Of the deployment that answered; of another's, the model's own smallest."""
    assert exchange.route is not None
    known = {deployment.id: deployment.context_window for deployment in exchange.route.deployments}
    own = known.get(exchange.deployment or "")
    return own or min([window for window in known.values() if window is not None], default=None)


def _turns_to_tell(session: Session, policy: Sessions, window: int | None) -> int:
    """How many of the oldest turns a summary is to stand for; 0: there is room yet."""
    turns = session.turns
    used = sum(turn.tokens for turn in turns) + (session.summary.tokens if session.summary else 0)
    if len(turns) <= USED_SHARE * policy.max_messages and (window is None or used <= USED_SHARE * window):
        return 0
    left = newest(
        [kind_of(turn) for turn in turns],
        [turn.tokens for turn in turns],
        tokens_max=inf if window is None else LEFT_SHARE * window,
        turns_max=int(LEFT_SHARE * policy.max_messages),
        goes_on=True,
    )
    gaps = [place for place, following in pairwise(left) if following != place + 1]
    return left[left.index(gaps[-1]) + 1] if gaps else left[0]


# --- a conversation to be read ----------------------------------------------------------------------------------------


def _lines(stored: Sequence[StoredTurn]) -> Iterator[str]:
    for _, run in groupby(stored, key=lambda turn: turn.dialect):
        for turn in conversation_of(list(run)).turns:
            said = [line for part in turn.parts if (line := _line(part))]
            if said:
                yield f"{turn.role}: " + "\n".join(said)


def _line(part: Part) -> str:
    match part:
        case Text(text=text) | Refusal(text=text):
            return text
        case ToolUse(name=name, arguments=arguments):
            return f"[calls {name}({arguments})]"
        case ToolResult(content=content):
            return f"[result: {' '.join(map(_line, content))}]"
        case Image():
            return "[an image]"
        case File(name=name):
            return f"[a file: {name}]" if name else "[a file]"
        case Reasoning():
            return ""
        case _:
            assert_never(part)
