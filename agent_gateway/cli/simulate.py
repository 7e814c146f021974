"""`agent-gateway simulate`: a provider to try and test against, over HTTP; no key, no cost, no network beyond this machine."""

from __future__ import annotations

import argparse
import socket
import sys
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from agent_gateway.simulator.batches.settings import BatchSettings
    from agent_gateway.simulator.settings import SimulatorSettings

_Settings = TypeVar("_Settings")

HELP = "serves a simulated provider that speaks OpenAI's, Anthropic's and Gemini's protocols"
EXAMPLE = "agent-gateway simulate --port 9101 --ttft-ms 300 --tokens-per-s 60 --error-rate 0.05 --seed 1"

#: Connections that it holds, where the system lets it.
_CONNECTIONS_MAX = 20_000
#: What runs when the simulator is told to stop gets this long to end (s); a hang would otherwise hold it for ever.
_DRAIN_S = 1

#: Options that are settings of the simulator: name, what the value is called, help.
_OPTIONS = (
    ("ttft-ms", "MS", "time to first token (default 300)"),
    ("tokens-per-s", "N", "tokens per second after the first; 0: all at once (default 60)"),
    ("output-tokens", "N", "mean length of an answer in tokens (default 120)"),
    ("output-spread", "SHARE", "standard deviation of the length, as a share of its mean (default 0.3)"),
    ("jitter", "SIGMA", "sigma of the lognormal factor on every wait; 0: none (default 0.2)"),
    ("error-rate", "SHARE", "share of requests answered 500, 503 or 529 (default 0)"),
    ("rate-limit-rate", "SHARE", "share of requests answered 429 (default 0)"),
    ("hang-rate", "SHARE", "share of requests never answered (default 0)"),
    ("cut-rate", "SHARE", "share of answers whose connection breaks in the middle (default 0)"),
    ("slow-rate", "SHARE", "share of requests that start --slow-ms late (default 0)"),
    ("slow-ms", "MS", "how late slow requests start (default 5000)"),
    ("retry-after-s", "S", "what a 429 tells the client to wait (default 1)"),
    ("outage-every-s", "S", "once in so long it is out for --outage-s; 0: never (default 0)"),
    ("outage-s", "S", "how long an outage lasts, in which all is answered 503 (default 0)"),
    ("seed", "N", "the same seed gives the same answers, waits and faults (default 0)"),
)
#: And of its batch APIs and its bill.
_BATCH_OPTIONS = (
    ("batch-ms", "MS", "time until a batch is done (default 3000)"),
    ("price-input", "USD", "what GET /billing bills for a million tokens in; in batches half of it (default 0.15)"),
    ("price-output", "USD", "the same for tokens out (default 0.6)"),
)
_WHOLE_NUMBERS = ("output-tokens", "seed")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", metavar="H", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", metavar="P", type=int, default=9101, help="port to listen on; 0: any free one (default 9101)")
    for name, metavar, help_text in _OPTIONS + _BATCH_OPTIONS:
        parser.add_argument(f"--{name}", metavar=metavar, type=int if name in _WHOLE_NUMBERS else float, help=help_text)
    parser.add_argument("--json", action="store_true", help="print what is served as JSON")


def run(arguments: argparse.Namespace) -> int:
    try:
        from agent_gateway.simulator.batches.settings import BatchSettings
        from agent_gateway.simulator.settings import SimulatorSettings

        settings = _given(arguments, _OPTIONS, SimulatorSettings)
        batch_settings = _given(arguments, _BATCH_OPTIONS, BatchSettings)
        sockets = _listen(arguments.host, arguments.port)
    except _UsageError as error:
        print(f"agent-gateway simulate: {error}", file=sys.stderr)
        return 2
    _announce(sockets[0], arguments.host, settings, batch_settings, as_json=arguments.json)
    _serve(sockets, settings, batch_settings)
    return 0


class _UsageError(Exception):
    """What is wrong with the command as it was given, and what would be right."""


def _given(arguments: argparse.Namespace, options: tuple[tuple[str, str, str], ...], kind: type[_Settings]) -> _Settings:
    import msgspec

    given = {name.replace("-", "_"): getattr(arguments, name.replace("-", "_")) for name, _, _ in options}
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        try:
            msgspec.convert({name: value}, kind)
        except msgspec.ValidationError as error:
            said = str(error).partition(" - at ")[0].replace("`", "")
            raise _UsageError(f"--{name.replace('_', '-')} {value:g} is out of range: {said[:1].lower()}{said[1:]}") from None
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise _UsageError(str(error)) from None


def _listen(host: str, port: int) -> list[socket.socket]:
    from agent_gateway.core.listening import listen

    if not 0 <= port <= 65535:
        raise _UsageError(f"--port {port} is not a port: 0 to 65535")
    try:
        return listen(host, port)
    except OSError as error:
        raise _UsageError(str(error)) from None


def _announce(listener: socket.socket, host: str, settings: SimulatorSettings, batch_settings: BatchSettings, *, as_json: bool) -> None:
    import msgspec

    from agent_gateway.simulator.catalogue import MODELS

    port = listener.getsockname()[1]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
    if as_json:
        told = {"url": url, "port": port, "models": MODELS, "settings": settings, "batches": batch_settings}
        print(msgspec.json.encode(told).decode(), flush=True)
        return
    faults = [f"{name.removesuffix('_rate')} {rate:.0%}" for name, rate in _rates(settings).items() if rate]
    body = '{"model": "gpt-4o-mini", "stream": true, "messages": [{"role": "user", "content": "How do I bake bread?"}]}'
    lines = [
        f"simulated provider at {url} (any key, any model name)",
        f"  the base URL for Anthropic's and Google's SDKs is {url.removesuffix('/v1')}",
        "  OpenAI chat completions, Responses, completions, embeddings; Anthropic messages, count_tokens; Gemini generateContent",
        f"  batches of all three, done after {batch_settings.batch_ms:g} ms; {url.removesuffix('/v1')}/billing tells calls, tokens and USD",
        f"  first token after {settings.ttft_ms:g} ms, then {_speed(settings)}, about {settings.output_tokens} tokens an answer",
        f"  faults: {', '.join(faults) or 'none'}; on demand: `fail-503`, `hang`, `cut-3`, `slow-2000`, `empty`, `garbage` or",
        "  `error-in-stream` as the key or at the end of the model's name (gpt-4o-mini:fail-503)",
        "try it:",
        f"  curl -N {url}/chat/completions -H 'content-type: application/json' \\",
        f"    -d '{body}'",
    ]
    print("\n".join(lines), flush=True)


def _rates(settings: SimulatorSettings) -> dict[str, float]:
    from agent_gateway.simulator.settings import RATES

    return {name: getattr(settings, name) for name in RATES}


def _speed(settings: SimulatorSettings) -> str:
    return f"{settings.tokens_per_s:g} tokens a second" if settings.tokens_per_s else "the rest at once"


def _serve(sockets: list[socket.socket], settings: SimulatorSettings, batch_settings: BatchSettings) -> None:
    """Until SIGINT or SIGTERM."""
    import asyncio
    import logging

    import uvloop

    from agent_gateway.core.open_files import raise_open_files
    from agent_gateway.simulator.server import server

    raise_open_files(_CONNECTIONS_MAX)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server(settings, batch_settings, drain_s=_DRAIN_S).serve(sockets))
