"""What the guard room does for one request: its texts are checked before they are sent, and its answer before the client has it.

Promise: the provider and the record see what the checks left; the client and its session see what was said.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from msgspec import structs

from agent_gateway.core import settings
from agent_gateway.core.call import Call
from agent_gateway.core.clock import Clock
from agent_gateway.core.errors import GuardFailed, GuardRefused
from agent_gateway.core.event import Chunk, Event, Failure, Whole
from agent_gateway.core.exchange import Exchange
from agent_gateway.core.route import WIDEST, Route
from agent_gateway.guard.answer import AnswerGuard, Bench
from agent_gateway.guard.base import CHECKS, About, Check, CheckFailed, CheckSettings, Finder, Judge, Said, Side, Tools
from agent_gateway.guard.hold import Alarm, Edit, Hold, Rules
from agent_gateway.guard.passages import Passage, passages, rewritten
from agent_gateway.guard.placeholders import Placeholders
from agent_gateway.guard.shapes import SHAPES
from agent_gateway.protocols.base import AnswerHead, codec_of
from agent_gateway.protocols.relay import NO_CONVERSATION

#: The event loop turns once for so many characters that were looked at.
SLICE_CHARS = 4 * 1024
#: A body longer than this (bytes) is taken apart beside the event loop: made of nothing but brackets, it takes 1 ms for each KB.
APART_BYTES = 32 * 1024
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Checks:
    """Of one side, as configured."""

    finders: Sequence[tuple[CheckSettings, Finder]]
    judges: Sequence[tuple[CheckSettings, Judge]]

    def __bool__(self) -> bool:
        return bool(self.finders or self.judges)

    @property
    def masks(self) -> bool:
        return any(check.action == "mask" for check, _ in self.finders)


class Guards:
    """One a runtime. `secret` gives the key under which values are named: the same for all who share a store."""

    def __init__(self, secret: Callable[[], Awaitable[bytes]], tools: Tools) -> None:
        self._ask_secret = secret
        self._secret: bytes | None = None
        self._tools = tools
        #: By the identity of their settings, which routes share and which are kept so that no other may have it.
        self._compiled: dict[int, tuple[settings.Guards, _Checks, _Checks]] = {}

    def prepare(self, guards: settings.Guards) -> tuple[_Checks, _Checks]:
        """Checks of the input and of the output. For those that routes share: each is made once."""
        known = self._compiled.get(id(guards))
        if known is None:
            known = self._compiled[id(guards)] = guards, self._checks(guards.input), self._checks(guards.output)
        return known[1:]

    async def check(self, exchange: Exchange, route: Route) -> Guarded | None:
        """None: nothing is configured. Raises `GuardRefused`, `GuardFailed`, `BadRequest` and, where values have to be named,
        `StoreDown`.
        """
        if not (route.guards.input or route.guards.output):
            return None
        entering, leaving = self.prepare(route.guards)
        call = exchange.call
        guarded: Guarded | None = None
        try:
            secret = b""
            if entering.masks or leaving.masks:
                secret = self._secret = self._secret or await self._ask_secret()
            guarded = Guarded(exchange, entering, leaving, secret, self._tools.clock)
            if entering:
                await guarded.check_request()
        except BaseException:
            if entering.finders and not (guarded is not None and guarded.has_looked):
                exchange.call = structs.replace(call, body=b"")  # what was not looked through is not recorded either
            raise
        return guarded

    def _checks(self, configured: Sequence[CheckSettings]) -> _Checks:
        made: list[tuple[CheckSettings, Check]] = [(check, CHECKS.load(check.kind)(check, self._tools)) for check in configured]
        return _Checks(
            [(check, plugin) for check, plugin in made if plugin.looks_at == "places"],
            [(check, plugin) for check, plugin in made if plugin.looks_at == "whole"],
        )


class Guarded:
    """One exchange."""

    def __init__(self, exchange: Exchange, entering: _Checks, leaving: _Checks, secret: bytes, clock: Clock) -> None:
        self._exchange = exchange
        self._call = exchange.call
        self._shape = SHAPES[exchange.call.dialect]
        self._entering = entering
        self._leaving = leaving
        self._clock = clock
        key = exchange.key
        self._placeholders = Placeholders(secret, f"{'' if key is None else key.id}\0{exchange.call.user or ''}")
        #: The finders are through with the request.
        self.has_looked = False
        #: What a session makes of the request where all of it fits, and the texts of that.
        self._widest: tuple[bytes, Sequence[Passage]] = (b"", ())
        #: Of the request: what is sent for a text.
        self._sent: dict[str, str] = {}
        self._rules_in, self._thought_rules_in = _rules(entering, self._placeholders.hide)
        self._rules_out, self._thought_rules_out = _rules(leaving, self._placeholders.stand_in)

    # --- what is sent

    async def check_request(self) -> None:
        """`exchange.call`, and what a session makes of it, are what may be sent from here on."""
        exchange = self._exchange
        call, fit = exchange.call, exchange.fit
        own = await self._taken_apart(call.body)
        sent = own
        if fit is not None and (widest := fit(WIDEST)).body is not call.body:
            sent = await self._taken_apart(widest.body)
            self._widest = widest.body, sent
        said = [each for passage in sent for each in passage.texts()]
        further = [] if sent is own else [each for passage in own for each in passage.texts()]
        rules, thought_rules = self._rules_in, self._thought_rules_in
        await self._find([*said, *further])
        self.has_looked = True
        blocked = rules.blocked or thought_rules.blocked
        if blocked is None:
            exchange.call = self._masked(call, own)  # whatever the judges may say, or fail to
            blocked = await self._judge(said)
        _note(exchange, rules.masked, "mask")
        _note(exchange, rules.flagged | thought_rules.flagged, "flag")
        if blocked is not None:
            await self._beside(len(call.body), lambda: self._hide_all(own))
            exchange.call = self._masked(call, own)
            _note(exchange, [blocked], "block")
            raise _refused(blocked, "request")
        exchange.call = self._masked(call, own)
        if fit is not None:
            exchange.fit = lambda deployment: self._masked(fit(deployment))

    async def _taken_apart(self, body: bytes) -> list[Passage]:
        return await self._beside(len(body), lambda: passages(body, self._shape))

    @staticmethod
    async def _beside(body_bytes: int, work: Callable[[], _T]) -> _T:
        return work() if body_bytes <= APART_BYTES else await asyncio.to_thread(work)

    async def _find(self, said: Sequence[Said]) -> None:
        turn = 0
        for text, role in said:
            if text in self._sent:
                continue
            hold = Hold(self._thought_rules_in if role == "thought" else self._rules_in)
            out: list[str] = []
            for place in range(0, len(text), SLICE_CHARS):
                part = text[place : place + SLICE_CHARS]
                out.append(hold.feed(part))
                turn += len(part)
                if turn > SLICE_CHARS:
                    turn = 0
                    await asyncio.sleep(0)
            out.append(hold.feed("", is_last=True))
            if self._rules_in.blocked or self._thought_rules_in.blocked:
                return
            if role != "thought":
                self._sent[text] = "".join(out)

    async def _judge(self, said: Sequence[Said]) -> str | None:
        """The check that refuses the request."""
        for check, judge in self._entering.judges:
            shown = [Said(self._sent.get(text, text), role) for text, role in said]
            texts = await self._asked("input", check, judge, shown)
            if texts is None:
                return check.title
            for (text, role), changed in zip(said, texts, strict=True):
                if role != "thought":
                    self._sent[text] = changed
        return None

    def _masked(self, call: Call, found: Sequence[Passage] | None = None) -> Call:
        if found is None:
            known, found = self._widest
            if call.body != known:
                found = passages(call.body, self._shape)
        body = rewritten(call.body, found, self._replacement)
        return call if body is call.body else structs.replace(call, body=body)

    def _replacement(self, text: str) -> str:
        sent = self._sent.get(text)
        if sent is None:
            sent = self._sent[text] = self._rules_in.applied(text)
        return sent

    def _hide_all(self, found: Sequence[Passage]) -> None:
        """For the record of a refused request: what it was refused for is hidden in it like what is masked, in thoughts as well, for
        nobody gets these any more.
        """
        edits = [
            Edit(check.title, finder, self._placeholders.stand_in) for check, finder in self._entering.finders if check.action != "flag"
        ]
        rules = Rules(edits)
        for passage in found:
            if passage.role == "thought":
                passage.role = "assistant"
            for text, _ in passage.texts():
                self._sent[text] = rules.applied(text)

    # --- what is answered

    def watch(self, answer: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """The same generator, where there is nothing to look for and nothing to put back."""
        if self._call.dialect in NO_CONVERSATION or not (self._leaving or self._placeholders):
            return answer
        self._exchange.tap = None  # every frame is looked at
        return self._watched(answer)

    async def _watched(self, answer: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        exchange, call = self._exchange, self._call
        guard = self._answer_guard()
        codec = codec_of(call.dialect)
        reader, writer = codec.stream_reader(), codec.stream_writer(self._head(), call)
        has_begun = is_over = False
        try:
            async with aclosing(answer):
                async for event in answer:
                    match event:
                        case Whole(body=body):
                            is_over = True
                            body = await self._whole(body, guard)
                            self._note_answer(guard, exchange)  # the head tells
                            yield Whole(body)
                        case Failure():
                            is_over = True
                            yield event
                        case Chunk(data=data):
                            deltas = reader.feed(data)
                            frames = writer.write(await guard.feed(deltas, is_last=reader.done))
                            if guard.blocked is not None and not has_begun:
                                raise _refused(guard.blocked, "answer")
                            if reader.done and guard.blocked is None:
                                is_over = True
                                frames += writer.end()
                            if frames:
                                has_begun = True
                                yield Chunk(frames)
                            if guard.blocked is not None:
                                yield Failure(_refused(guard.blocked, "answer"))
                                return
            if not is_over:  # the protocol has no end mark
                frames = writer.write(await guard.feed((), is_last=True))
                if guard.blocked is None:
                    yield Chunk(frames + writer.end())
                elif has_begun:
                    yield Failure(_refused(guard.blocked, "answer"))
                else:
                    raise _refused(guard.blocked, "answer")
        finally:
            self._note_answer(guard, exchange)

    async def _whole(self, body: bytes, guard: AnswerGuard) -> bytes:
        codec = codec_of(self._call.dialect)
        deltas = codec.read_answer(body)
        told = await guard.feed(deltas, is_last=True)
        if guard.blocked is not None:
            raise _refused(guard.blocked, "answer")
        return codec.write_answer(self._head(), told, self._call) if guard.has_changed else body

    def _answer_guard(self) -> AnswerGuard:
        placeholders = self._placeholders
        rules = self._rules_out
        restore = Rules()
        if placeholders:
            if rules.edits:  # what stands for the client's own values is not looked into
                rules.edits = [Edit("", placeholders, None), *rules.edits]
            restore = Rules([Edit("", placeholders, lambda _, value: placeholders.value(value))])
        checks = {check.title: check for check, _ in self._leaving.judges}

        async def ask(title: str, judge: Judge, said: Sequence[Said]) -> Sequence[str] | None:
            return await self._asked("output", checks[title], judge, said)

        holds = any(check.action != "flag" and judge.stream_max_chars is None for check, judge in self._leaving.judges)
        bench = Bench([(check.title, judge) for check, judge in self._leaving.judges], ask, holds)
        return AnswerGuard(rules, self._thought_rules_out, bench, restore)

    def _note_answer(self, guard: AnswerGuard, exchange: Exchange) -> None:
        _note(exchange, self._rules_out.masked, "mask")
        _note(exchange, self._rules_out.flagged | self._thought_rules_out.flagged, "flag")
        if guard.blocked is not None:
            _note(exchange, [guard.blocked], "block")
        if guard.changes_record and guard.transcript is not None:
            exchange.answer = []
            exchange.transcript = guard.transcript
            exchange.compacted_bytes = exchange.answer_bytes

    def _head(self) -> AnswerHead:
        exchange = self._exchange
        return AnswerHead(exchange.id.removeprefix("req_"), int(exchange.started_wall), self._call.model)

    # --- both

    async def _asked(self, side: Side, check: CheckSettings, judge: Judge, said: Sequence[Said]) -> Sequence[str] | None:
        """The texts as they are to be; None: refused."""
        exchange = self._exchange
        texts = [text for text, _ in said]
        key_id = None if exchange.key is None else exchange.key.id
        about = About(side, exchange.id, self._call.model, key_id, exchange.deadline - self._clock.monotonic())
        try:
            verdict = await judge.judge(said, about)
        except CheckFailed as error:
            _note(exchange, [check.title], "failed")
            if error.lets_pass:
                return texts
            raise GuardFailed(
                f"The check {check.title} of the gateway could not be made. Try again later.", param=check.title, detail=error.detail
            ) from None
        if verdict is None:
            return texts
        action = "flag" if check.action == "flag" else verdict.action
        if action == "block":
            return None
        if action == "mask" and verdict.texts is not None:
            _note(exchange, [check.title], "mask")
            return verdict.texts
        _note(exchange, [check.title], "flag")
        return texts


def _rules(checks: _Checks, hide: Callable[[str, str], str]) -> tuple[Rules, Rules]:
    """For what is said, and for thoughts, which nothing changes."""
    edits = [Edit(check.title, finder, hide) for check, finder in checks.finders if check.action == "mask"]
    alarms = [Alarm(check.title, finder, check.action == "block") for check, finder in checks.finders if check.action != "mask"]
    return Rules(edits, alarms), Rules((), alarms)


def _note(exchange: Exchange, titles: Iterable[str], action: str) -> None:
    for title in sorted(titles):
        if (title, action) not in exchange.guards:
            exchange.guards += ((title, action),)


def _refused(title: str, what: str) -> GuardRefused:
    return GuardRefused(f"The {what} was refused by the gateway's check {title}.", param=title)
