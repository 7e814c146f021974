"""How many files, connections among them, this process may have open; raised as far as the system lets it."""

from __future__ import annotations

import resource


def raise_open_files(wanted: int) -> int:
    """The soft limit then: `wanted`, or what there was where that is more, or the hard limit where that is less."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted if soft == resource.RLIM_INFINITY else soft
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    except (OSError, ValueError):  # macOS has a limit of its own below the hard one (kern.maxfilesperproc)
        return soft
    return raised
