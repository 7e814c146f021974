"""The limit on open files is raised as far as it is wanted and the system allows; seen in processes of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "raised"),
    [(100, 300, 200, 200), (100, 300, 1000, 300), (250, 300, 200, 250), (100, 100, 200, 100)],
)
def test_it_is_raised(soft: int, hard: int, wanted: int, raised: int) -> None:
    program = (
        "import resource; from agent_gateway.core.open_files import raise_open_files; "
        f"print(raise_open_files({wanted}), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    command = ["bash", "-c", f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$0" -c "$1"', sys.executable, program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == [str(raised)] * 2
