"""How far a command has come that takes its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(what: str, *, shown: bool) -> Iterator[Callable[[float, float], None]]:
    """On standard error, where somebody looks; it is told how much is done, and of how much."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not (shown and console.is_terminal)) as shower:
        task = shower.add_task(what, total=None)
        yield lambda done, of: shower.update(task, completed=done, total=of)
