"""The provider's bill: every call and token by model, live and in batches, with the price it has; kept in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from agent_gateway.core.usage import Usage
from agent_gateway.simulator.batches.faults import steered
from agent_gateway.simulator.batches.settings import BATCH_PRICE_SHARE, BatchSettings

#: Models with a line of their own; the calls of any others are told together.
MODELS_MAX = 1000
_OTHERS = "(others)"

Mode = Literal["live", "batch"]


class Line(Struct, frozen=True, kw_only=True):
    model: str
    mode: Mode
    #: Those that were answered, and those that failed and cost nothing.
    calls: int
    failed_calls: int
    input_tokens: int
    output_tokens: int
    usd: float


class Total(Struct, frozen=True, kw_only=True):
    calls: int
    failed_calls: int
    input_tokens: int
    output_tokens: int
    usd: float


class Bill(Struct, frozen=True):
    lines: list[Line]
    total: Total


@dataclass(slots=True)
class _Tally:
    calls: int = 0
    failed_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class Billing:
    def __init__(self, settings: BatchSettings) -> None:
        self._price = settings.price
        self._tallies: dict[tuple[str, Mode], _Tally] = {}

    def note(self, model: str, usage: Usage | None, mode: Mode) -> None:
        """One call; no usage: it failed. What has been answered is paid for, whether or not the client stayed until its end."""
        tally = self._tally(steered(model)[0], mode)
        if usage is None:
            tally.failed_calls += 1
            return
        tally.calls += 1
        tally.input_tokens += usage.input
        tally.output_tokens += usage.output

    def told(self) -> Bill:
        lines = [self._line(model, mode, tally) for (model, mode), tally in sorted(self._tallies.items())]
        total = Total(
            calls=sum(line.calls for line in lines),
            failed_calls=sum(line.failed_calls for line in lines),
            input_tokens=sum(line.input_tokens for line in lines),
            output_tokens=sum(line.output_tokens for line in lines),
            usd=sum([line.usd for line in lines]),
        )
        return Bill(lines, total)

    def _tally(self, model: str, mode: Mode) -> _Tally:
        if (model, mode) not in self._tallies and len(self._tallies) >= MODELS_MAX:
            model = _OTHERS
        return self._tallies.setdefault((model, mode), _Tally())

    def _line(self, model: str, mode: Mode, tally: _Tally) -> Line:
        """Priced as a whole, so that no rounding adds up."""
        list_usd = self._price.cost_usd(Usage(input=tally.input_tokens, output=tally.output_tokens))
        return Line(
            model=model,
            mode=mode,
            calls=tally.calls,
            failed_calls=tally.failed_calls,
            input_tokens=tally.input_tokens,
            output_tokens=tally.output_tokens,
            usd=list_usd * (BATCH_PRICE_SHARE if mode == "batch" else 1.0),
        )
