"""The world of a rehearsed preset: a simulated provider at which calls fail, and a gateway before it, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agent_gateway.bench.presets import FAULTS, Rehearsal
from agent_gateway.cli.batch_client import BatchClient
from agent_gateway.record.slo import OBJECTIVES, Verdict

if TYPE_CHECKING:
    from agent_gateway.bench.load import Load
    from agent_gateway.bench.targets import PresetName

#: A process that has not said where it listens by then will not (s).
START_S = 30.0
STOP_S = 15.0
#: Requests of the batch by which it is measured what batches save, and how long it may take (s).
SAVING_REQUESTS = 500
SAVING_TIMEOUT_S = 120.0
#: Records are behind the answers they tell of by at most so much (s).
RECORDS_BEHIND_S = 2.0
#: Levels of the patterns that both presets are made of, which the gateway alone can tell.
_KEPT = ("fallback_rate", "availability", "fallback_quality", "model_latency", "records_complete")
#: What a batch is to cost less than single calls.
SAVING = 0.30


class NotStarted(Exception):
    """A process of the rehearsal did not start; the text is what it said."""


@contextmanager
def running(preset: PresetName, rehearsal: Rehearsal) -> Iterator[str]:
    """The gateway's URL. Raises `NotStarted`."""
    with tempfile.TemporaryDirectory(prefix="agent-gateway-bench-") as name:
        folder = Path(name)
        file = folder / "gateway.yaml"
        with _process(folder, {}, "simulate", "--port", "0", *rehearsal.simulator, *FAULTS) as provider_url:
            file.write_bytes(msgspec.json.encode(rehearsal.configuration(preset, provider_url)))  # JSON is YAML too
            with _process(folder, rehearsal.environment, "serve", "--config", str(file), "--port", "0") as url:
                yield url


@contextmanager
def _process(folder: Path, environment: Mapping[str, str], *words: str) -> Iterator[str]:
    """Of one of our commands that serves: the URL that it tells."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    log = folder / f"{words[0]}.log"
    with log.open("wb") as errors:
        command = [sys.executable, "-m", "agent_gateway", *words, "--json"]
        process = subprocess.Popen(  # noqa: S603 - ourselves
            command, cwd=folder, env={**own, **environment}, stdout=subprocess.PIPE, stderr=errors
        )
    try:
        yield _url_told(process, words[0], log)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _url_told(process: subprocess.Popen[bytes], name: str, log: Path) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        return str(msgspec.json.decode(line, type=dict[str, Any])["url"])
    except (msgspec.MsgspecError, KeyError):
        said = log.read_text(errors="replace").strip() or line.decode(errors="replace").strip()
        raise NotStarted(f"`agent-gateway {name}` of the rehearsal did not start: {said}") from None


# --- what only the gateway knows --------------------------------------------------------------------------------------


def kept_by_the_gateway(client: BatchClient, targets: Sequence[Verdict]) -> list[Verdict]:
    """With them, what the clients cannot see: the gateway's own time, its models', its records. Its last hour is all that it was asked."""
    time.sleep(RECORDS_BEHIND_S)
    own = [msgspec.convert(each, Verdict) for each in client.get("/admin/v1/slo?since=1h")["data"]]
    seen = {each.slo: each for each in targets if each.figure is not None}
    judged = {each.slo for each in targets}
    mine = {each.slo: each for each in own if each.slo in (*judged, *_KEPT)}
    return [seen.get(objective.name) or mine[objective.name] for objective in OBJECTIVES if objective.name in (*seen, *mine)]


def saved_by_batches(client: BatchClient, load: Load) -> Verdict:
    """What a batch of the same questions costs less than the same asked one by one, as the gateway reports it."""
    from agent_gateway.bench.workload import Workload

    questions = Workload(load, "saving")
    lines = (
        b'{"custom_id":"%d","method":"POST","url":"/v1/chat/completions","body":%b}\n' % (number, questions.question())
        for number in range(SAVING_REQUESTS)
    )
    batch = client.create(client.upload("questions.jsonl", lines), "/v1/chat/completions", "24h")
    until = time.monotonic() + SAVING_TIMEOUT_S
    while batch["status"] in ("validating", "in_progress", "finalizing") and time.monotonic() < until:
        time.sleep(0.5)
        batch = client.batch(batch["id"])
    saved = batch.get("saved_ratio") if batch["status"] == "completed" else None
    return Verdict(
        slo="batch_saving",
        of="codegen",
        text="what a batch costs less than single calls",
        target=SAVING,
        unit="share",
        better="above",
        figure=saved,
        ratio=SAVING / saved if saved else None,
        met=saved is not None and saved >= SAVING,
        count=batch["request_counts"]["completed"],
    )
