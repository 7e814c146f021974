"""The ways a simulated batch goes wrong, and how one asks for them by name.

A test steers by its key, or by what follows the last colon of the model's name (`gpt-4o-mini:batch-fail`); live calls with such a key
or model go well. `N` is 2 where it is left out.

| name | what happens |
|---|---|
| `batch-refuse`, `batch-refuse-503` | making a batch is answered 429 (503) |
| `batch-fail` | the batch fails as a whole; where a provider knows no such thing, every item of it does |
| `batch-expire`, `batch-expire-5` | it expires, with no item (5 items) answered |
| `batch-hang`, `batch-hang-5` | with no item (5 items) answered it stands still, and never ends unless it is cancelled |
| `batch-error-N` | every Nth item fails with the provider's error 500 |
| `batch-garble-N` | every Nth answer is not JSON; of Gemini's inline ones, no answer |
| `batch-miss-N` | every Nth result is missing |
| `batch-double-N` | every Nth result is there twice |
| `batch-strange-N` | every Nth result goes by an id that nobody gave |
| `batch-gone` | the results are gone when they are asked for |

Every Nth means the first, and from there the Nth. Items go wrong as live calls do, too: by the rates of the settings, and by their
own model's suffix. One that hangs expires, one that is cut is an error 500.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from agent_gateway.simulator.faults import steered_fault, steered_model

Whole = Literal["refuse", "fail", "expire", "hang", "gone"]
Some = Literal["error", "garble", "miss", "double", "strange"]

_STEERING = re.compile(
    r"batch-(?:(?P<whole>refuse|fail|expire|hang|gone)|(?P<some>error|garble|miss|double|strange))(?:-(?P<number>\d{1,6}))?"
)
#: What a provider answers with that has no room for another batch.
_REFUSAL_STATUS = 429
_EVERY = 2


@dataclass(frozen=True, slots=True)
class BatchFault:
    kind: Whole | Some
    #: The status of a refusal, the items answered before a batch expires or hangs, or of which items each is struck.
    number: int = 0

    def strikes(self, kind: Some, position: int) -> bool:
        """The item at this `position`, from 0."""
        return self.kind == kind and position % self.number == 0


def steered_batch(text: str) -> BatchFault | None:
    """The fault that `text` names, if it names one."""
    match = _STEERING.fullmatch(text)
    if match is None:
        return None
    number = int(match["number"]) if match["number"] else None
    match match["whole"], match["some"]:
        case "refuse", _:
            status = _REFUSAL_STATUS if number is None else number
            return BatchFault("refuse", status) if 400 <= status <= 599 else None
        case ("fail" | "expire" | "hang" | "gone") as whole, _:
            return BatchFault(whole, number or 0)
        case _, ("error" | "garble" | "miss" | "double" | "strange") as some:
            every = _EVERY if number is None else number
            return BatchFault(some, every) if every else None
        case _:
            return None


def steered(model: str) -> tuple[str, BatchFault | None]:
    """The model's own name, without what steers calls or batches, and the batch's fault that it names."""
    name = model
    found: BatchFault | None = None
    while True:
        rest, _, suffix = name.rpartition(":")
        if rest and (fault := steered_batch(suffix)):
            found, name = fault, rest
        elif rest and steered_fault(suffix):
            name = steered_model(name)[0]
        else:
            return name, found
