"""How a module of this package is run in a process of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

#: What a Python may need of its environment to find what this one has found.
_OF_THE_INTERPRETER = ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")


def own_module(name: str, *words: str) -> list[str]:
    """The command."""
    # -P, where this process has it so: what lies in the working directory is not imported in the package's stead.
    safely = [] if "" in sys.path or os.getcwd() in sys.path else ["-P"]
    return [sys.executable, *safely, "-m", f"agent_gateway.{name}", *words]


def own_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ`, under which the same package is found, though it be another than this process's own."""
    return {**{name: os.environ[name] for name in _OF_THE_INTERPRETER if name in os.environ}, **environ}
