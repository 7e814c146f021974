"""How deployments behave, drawn from what they did: what a call made now would meet, by the calls that were made around that time.

Promise: a call is never answered by its own record, so that rehearsing what was recorded is a fair test of rehearsing anything else.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from random import Random
from statistics import fmean, median

from agent_gateway.core.errors import ProviderError
from agent_gateway.core.usage import Usage
from agent_gateway.rehearsal.traffic import Done
from agent_gateway.upstream.hedge import LOST_RACE

SUCCESS = "success"
#: Calls before, and calls after, that may tell what a call meets.
NEAREST = 4
#: The nearest tells the most: others count beside it up to twice as far away, and so much more (s).
TOGETHER_S = 10.0
#: A request's own calls among them are passed over; it has at most so many (`retries.max_attempts` beyond it is not a habit).
_OWN_MAX = 4


def _tree(error: type[ProviderError]) -> Iterator[type[ProviderError]]:
    yield error
    for child in error.__subclasses__():
        yield from _tree(child)


#: By outcome: how a deployment can fail.
FAILURES = {error.code: error for error in _tree(ProviderError)}
#: Other outcomes say nothing of a deployment; one that was cancelled, or came second in a race, might have done well.
_TELLING = frozenset({SUCCESS, *FAILURES})
_CUT_SHORT = frozenset({"cancelled", LOST_RACE})


@dataclass(frozen=True, slots=True)
class Act:
    """What one call meets; seconds since it began. `outcome`: `success`, or the code of the error that it ends with."""

    outcome: str
    #: None: no connection comes about.
    connected_s: float | None
    #: Of a stream; None: it fails before.
    first_token_s: float | None
    ended_s: float
    provider_status: int | None
    output_tokens: int


class Behaviour:
    """Of every deployment that was called, and of those that never were."""

    def __init__(self, done: Iterable[Done]) -> None:
        by_deployment: dict[str, list[Done]] = defaultdict(list)
        for each in done:
            by_deployment[each.deployment].append(each)
        self._known = {name: _History(each) for name, each in sorted(by_deployment.items())}
        self._stand_ins: dict[tuple[str, bool], tuple[str, _History] | None] = {}

    @property
    def is_known(self) -> bool:
        """Any deployment has ever answered."""
        return any(history.answers[stream] for history in self._known.values() for stream in (True, False))

    def stand_in(self, deployment: str, *, stream: bool) -> str | None:
        """Whose times a deployment is given that has not answered such a call; None: its own."""
        found = self._answering(deployment, stream)
        return None if found is None or found[0] == deployment else found[0]

    def act(self, deployment: str, at: float, usage: Usage, chance: Random, *, stream: bool, request: int) -> Act:
        """At `at` (Unix s), for a request that takes that much. One that was never called fails never, as far as is known."""
        own = self._known.get(deployment)
        met = own.all.near(at, chance, request) if own is not None else None
        if met is not None and met.outcome != SUCCESS:
            return Act(
                met.outcome, met.connected_s, met.first_token_s, met.ended_s, met.provider_status, min(met.output_tokens, usage.output)
            )
        found = self._answering(deployment, stream)
        assert found is not None, "somebody has answered"
        return found[1].answer(at, usage, chance, stream=stream, request=request)

    def _answering(self, deployment: str, stream: bool) -> tuple[str, _History] | None:
        key = (deployment, stream)
        if key not in self._stand_ins:
            self._stand_ins[key] = self._find(deployment, stream) or self._find(deployment, not stream)
        return self._stand_ins[key]

    def _find(self, deployment: str, stream: bool) -> tuple[str, _History] | None:
        """Itself, the same model elsewhere (where it answered most), or the one whose usual time is the median of all."""
        able = {name: history for name, history in self._known.items() if history.answers[stream]}
        if deployment in able:
            return deployment, able[deployment]
        model = deployment.partition("/")[2]
        same = [name for name in able if name.partition("/")[2] == model]
        if same:
            name = max(same, key=lambda name: len(able[name].answers[stream]))
            return name, able[name]
        usual = sorted(able, key=lambda name: able[name].usual_s(stream))
        return (usual[len(usual) // 2], able[usual[len(usual) // 2]]) if usual else None


class _History:
    """What one deployment did."""

    def __init__(self, done: Sequence[Done]) -> None:
        telling = [each for each in done if each.outcome in _TELLING]
        streams = [each for each in telling if each.outcome == SUCCESS and each.first_token_s is not None]
        wholes = [each for each in telling if each.outcome == SUCCESS and each.first_token_s is None]
        slow = [each for each in done if each.outcome in _CUT_SHORT and each.first_token_s is None]
        self.all = _Series(telling)
        #: By whether they are streams.
        self.answers = {
            True: _Series(_with_slow(streams, [each for each in slow if each.stream], _first_s)),
            False: _Series(_with_slow(wholes, [each for each in slow if not each.stream], _ended_s)),
        }
        self._first = _Line.of(streams, _input, _first_s)
        self._rest = _Line.of(streams, _output, _rest_s)
        self._whole_by = _output if any(each.output_tokens for each in wholes) else _input
        self._whole = _Line.of(wholes, self._whole_by, _ended_s)

    def usual_s(self, stream: bool) -> float:
        return median(each.ended_s for each in self.answers[stream].done)

    def answer(self, at: float, usage: Usage, chance: Random, *, stream: bool, request: int) -> Act:
        """As long as it took another around that time, in proportion to what is usual for either's size."""
        kind = stream if self.answers[stream] else not stream
        other = self.answers[kind].near(at, chance, request)
        if other is None:  # it has answered this request, and no other
            other = self.answers[kind].done[0]
        if kind:
            first_s = self._first.scaled(_first_s(other), other.input_tokens, usage.input)
            ended_s = first_s + self._rest.scaled(_rest_s(other), other.output_tokens, usage.output)
        else:
            size = usage.output if self._whole_by is _output else usage.input
            first_s = ended_s = self._whole.scaled(other.ended_s, self._whole_by(other), size)
        connected_s = min(other.connected_s or 0.0, first_s)
        return Act(SUCCESS, connected_s, first_s if stream else None, ended_s, 200, usage.output)


class _Series:
    """Calls by when they began."""

    def __init__(self, done: Iterable[Done]) -> None:
        self.done = sorted(done, key=attrgetter("at", "request"))
        self._times = [each.at for each in self.done]

    def __len__(self) -> int:
        return len(self.done)

    def near(self, at: float, chance: Random, but: int) -> Done | None:
        """One of the nearest, of any request but that one: of those before or of those after, whichever the time is likelier to belong
        with. So an outage, in which a deployment is hardly ever tried, lasts as long as it did.
        """
        place = bisect_left(self._times, at)
        reach = NEAREST + _OWN_MAX
        before = [each for each in reversed(self.done[max(place - reach, 0) : place]) if each.request != but]
        after = [each for each in self.done[place : place + reach] if each.request != but]
        if before and after:
            since, until = at - before[0].at, after[0].at - at
            chosen = before if chance.random() * (since + until) < until else after
        else:
            chosen = before or after
        if not chosen:
            return None
        far_s = TOGETHER_S + 2 * abs(chosen[0].at - at)
        return chance.choice([each for each in chosen[:NEAREST] if abs(each.at - at) <= far_s])


@dataclass(frozen=True, slots=True)
class _Line:
    """What is usual for a size: the least squares, neither ever falling nor ever below nothing."""

    at_none: float
    each: float

    @classmethod
    def of(cls, done: Sequence[Done], size: Callable[[Done], int], seconds: Callable[[Done], float]) -> _Line:
        if not done:
            return cls(0.0, 0.0)
        sizes, times = [size(each) for each in done], [seconds(each) for each in done]
        mean_size, mean_time = fmean(sizes), fmean(times)
        spread = sum((value - mean_size) ** 2 for value in sizes)
        slope = sum((a - mean_size) * (b - mean_time) for a, b in zip(sizes, times, strict=True)) / spread if spread else 0.0
        if slope <= 0:
            return cls(mean_time, 0.0)
        if slope * mean_size >= mean_time:
            return cls(0.0, mean_time / mean_size)
        return cls(mean_time - slope * mean_size, slope)

    def scaled(self, seconds: float, of: int, to: int) -> float:
        usual = self.at_none + self.each * of
        return seconds * (self.at_none + self.each * to) / usual if usual > 0 else seconds


def _with_slow(answers: Sequence[Done], cut_short: Iterable[Done], seconds: Callable[[Done], float]) -> list[Done]:
    """And, for each call that was given up before it was answered, one that took longer than that: only the slow ones are given up, and
    without them a deployment would seem faster than it is.
    """
    ordered = sorted(answers, key=seconds)
    times = [seconds(each) for each in ordered]
    stand_ins = []
    for each in cut_short:
        place = bisect_left(times, each.ended_s)
        if place < len(ordered):
            stand_ins.append(_at(Random(each.request).choice(ordered[place:]), each))
    return [*answers, *stand_ins]


def _at(like: Done, when: Done) -> Done:
    """Of one call what it met, of the other when that was."""
    return Done(
        *(
            when.request,
            when.deployment,
            when.at,
            when.stream,
            like.connected_s,
            like.first_token_s,
            like.ended_s,
            SUCCESS,
            like.provider_status,
        ),
        *(like.input_tokens, like.output_tokens),
    )


def _input(done: Done) -> int:
    return done.input_tokens


def _output(done: Done) -> int:
    return done.output_tokens


def _first_s(done: Done) -> float:
    return done.first_token_s or 0.0


def _rest_s(done: Done) -> float:
    return done.ended_s - _first_s(done)


def _ended_s(done: Done) -> float:
    return done.ended_s
