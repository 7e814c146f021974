"""What a process does to its interpreter before it serves many requests, or makes them."""

from __future__ import annotations

import gc
import sys


def calm_collector() -> None:
    """What is here now stays, so the garbage collector need not look at it again; and it looks at the rest less often.

    Requests free what they take by reference counts; there is next to nothing for it to find.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def let_generators_go() -> None:
    """The running loop keeps no list of the generators under way, to close at its end those that nobody has: here whoever iterates one
    closes it. One that is dropped is closed by the loop as ever.
    """
    sys.set_asyncgen_hooks(firstiter=None)
