"""What sessions cost a request that has none: CPU of the hot path as it is, beside the same with everything of sessions taken out of it.

    python benchmarks/session_stage.py [--rounds 60]

The two take turns, so that they meet the same noise; told is the least of each, µs a request, of the process's CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))

from agent_gateway import pipeline
from agent_gateway.admission.keys import create_key
from agent_gateway.app import Gateway
from agent_gateway.cli.serving import calm_collector
from agent_gateway.edge import request, response
from agent_gateway.stores.base import open_store
from benchmarks.hot_path import answer_from_a_can, configuration_in, measure

REQUESTS = {False: 1000, True: 100}
#: All that a request without a session or a kept response goes through for them.
STAGE: dict[Any, list[tuple[str, str]]] = {
    pipeline.run: [
        ("        if exchange.session is not None or exchange.call.keeping is not None:\n", ""),
        ("            kept = await attach(exchange, runtime.memory, runtime.responses, runtime.settings)\n", ""),
        ("        if kept is not None:\n            answer = kept.keep(answer)\n", ""),
        ("        if kept is not None:\n            kept.end()\n", ""),
        ("    kept: Kept | None = None\n", ""),
    ],
    request.read_head: [
        ('    session = headers.get(b"x-session-id")\n', ""),
        ('        session=session.decode("latin-1") if session else None,\n', ""),
    ],
    request.read_into: [
        ('    exchange.session = session_in(body) if head.session is None else checked_session(head.session, "x-session-id")\n', "")
    ],
    response._story: [
        ('f"x-session-id: {exchange.session}\\r\\n" if exchange.session is not None else ""', '""'),
    ],
}


def made_anew(function: Any, cuts: list[tuple[str, str]]) -> Any:
    source = "from __future__ import annotations\n" + inspect.getsource(function)
    for old, new in cuts:
        assert old in source, f"{function.__name__} has changed: {old!r} is not there"
        source = source.replace(old, new)
    made: dict[str, Any] = {}
    exec(source, function.__globals__, made)
    return made[function.__name__]


class Variant:
    """Both are made anew and put in place in the same way, so that the interpreter treats them alike."""

    def __init__(self, *, is_cut: bool) -> None:
        self._functions = {function: made_anew(function, cuts if is_cut else []) for function, cuts in STAGE.items()}
        modules = [module for name, module in sys.modules.items() if name.startswith("agent_gateway")]
        self._places = [
            (module, name, made)
            for module in modules
            for function, made in self._functions.items()
            for name, value in vars(module).items()
            if value is function
        ]

    def put_in_place(self) -> None:
        for module, name, function in self._places:
            setattr(module, name, function)


async def compare(gateway: Gateway, key: str, rounds: int) -> None:
    await gateway.app._started()
    variants = [Variant(is_cut=False), Variant(is_cut=True)]
    for stream, requests in REQUESTS.items():

        async def spent(stream: bool = stream, requests: int = requests) -> float:
            return await measure(gateway, key, stream=stream, requests=requests) / requests * 1e6

        measured: list[list[float]] = [[], []]
        for number in range(-2, 2 * rounds):  # the first of each warms up
            variants[number % 2].put_in_place()
            us = await spent()
            if number >= 0:
                measured[number % 2].append(us)
        here, gone = map(min, measured)
        name = "stream" if stream else "unary"
        print(f"{name:7} {here:.2f} µs a request as it is, {gone:.2f} µs without anything of sessions: {here - gone:+.2f} µs")
    await gateway.app._stopped()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        configuration = configuration_in(Path(folder))
        _, key = runner.run(create_key(open_store(configuration.settings.state.database), "benchmark"))

        async def go() -> None:
            answer_from_a_can(asyncio.get_running_loop())
            gateway = Gateway(configuration)
            calm_collector()
            await compare(gateway, key, rounds)

        runner.run(go())


if __name__ == "__main__":
    main()
