"""`agent-gateway bench`, as it is typed: against a running gateway, and with the whole world of a preset of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from agent_gateway.bench.report import Report
from agent_gateway.cli.bench import PRESETS
from agent_gateway.cli.main import main
from tests.kit.gateway import Gateway
from tests.kit.ports import free_port

Run = Callable[..., tuple[int, str, str]]

FAST = {"kind": "simulated", "ttft_ms": 20, "tokens_per_s": 0, "jitter": 0, "output_tokens": 20}
CONFIGURATION = {
    "state": {"database": "sqlite:///:memory:"},
    "providers": {"fast": FAST, "bad": {**FAST, "error_rate": 1}},
    "models": {
        "good": {"deployments": [{"provider": "fast", "model": "m", "price": {"input": 1, "output": 1}}]},
        "bad": {"deployments": [{"provider": "bad", "model": "m"}], "fallback": {"reply": None}},
    },
}
SHORT = ("--duration", "0.5", "--warm-up", "0.1")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    one = Gateway(tmp_path_factory.mktemp("bench"), CONFIGURATION, "fast lane")
    try:
        yield one.start()
    finally:
        one.close()


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    for name in ("GATEWAY_URL", "GATEWAY_KEY"):
        monkeypatch.delenv(name, raising=False)

    def typed(*words: str) -> tuple[int, str, str]:
        try:
            status = main(("bench", *words))
        except SystemExit as end:
            status = int(end.code or 0)
        told = capsys.readouterr()
        return status, told.out, told.err

    return typed


def test_a_table_against_the_targets_and_both_reports(run: Run, gateway: Gateway) -> None:
    words = ("--url", gateway.url, "--model", "good", "--mode", "stream", "--rate", "40", "--price", "1,2", *SHORT)
    status, out, err = run(*words, "--output", "one.json", "--html", "one.html")
    report = msgspec.json.decode(Path("one.json").read_bytes(), type=Report)
    assert (status, err) == (0 if report.met else 1, "")  # a busy machine may miss a target of time
    rows = {line.split("\t")[0]: line.split("\t") for line in out.splitlines()}
    assert rows["stream_completion"][-1] == rows["cost"][-1] == "met"
    assert rows["time to first token"][1].endswith((" ms", " s"))
    assert report.load.model == "good"
    assert report.figures.answered == report.figures.requests > 0
    assert Path("one.html").read_text().startswith("<!doctype html>")
    _, out, _ = run(*words, "--compare", "one.json")
    assert "requests answered a second\t" in out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "whatever follows hears a Ctrl-C"


@pytest.mark.parametrize("mode", ["unary", "batch"])
def test_each_mode_as_json(run: Run, gateway: Gateway, mode: str) -> None:
    """Without a name, the first model in the list is asked; without a rate, each user asks again when it is answered.

    Measured from the first question on: on a busy machine its answer may come when the time is over, and nobody asks again.
    """
    words = ("--mode", mode, "--batch-size", "5", "--concurrency", "2", "--duration", "0.5", "--warm-up", "0", "--json")
    status, out, err = run("--url", gateway.url, *words)
    report = msgspec.json.decode(out, type=Report)
    assert (report.load.model, report.load.mode) == ("bad", mode)
    assert report.figures.requests == report.figures.failed > 0
    assert set(report.figures.errors) <= {"502 provider_error", "503 overloaded"}
    assert (status, err) == (1, ""), "targets were missed"


def test_ctrl_c_ends_it_early_and_tells_what_there_is(gateway: Gateway) -> None:
    """The signal comes once it is at work: an answer has come."""
    command = [sys.executable, "-c", INTERRUPTED, "bench", "--url", gateway.url, "--model", "good", "--duration", "60", "--warm-up", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert " answered (" in done.stdout
    measured_s = re.search(r": 16 users, (\d+) s measured\n", done.stdout)
    assert measured_s is not None, done.stdout
    assert int(measured_s[1]) < 30, "it would have been twice as long"


#: The command, with a Ctrl-C of its own after its first answer.
INTERRUPTED = """
import os, signal, sys
from agent_gateway.bench.tally import Tally
from agent_gateway.cli.main import main

add = Tally.add

def interrupt(tally, outcome):
    add(tally, outcome)
    Tally.add = add
    os.kill(os.getpid(), signal.SIGINT)

Tally.add = interrupt
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--concurrency", "0"), "--concurrency 0 is wrong: expected int >= 1"),
        (("--rate", "-1"), "--rate -1.0 is wrong: expected float > 0"),
        (("--mode", "magic"), "--mode 'magic' is not one of unary, stream, batch"),
        (("--warm-up", "-1"), "--warm-up -1.0 is wrong: expected float >= 0"),
        (("--price", "cheap"), "--price 'cheap' is not two numbers such as 0.15,0.60"),
        (("--simulated",), "say which with --preset support or --preset codegen"),
        (("--simulated", "--preset", "support", "--url", "http://h"), "leave out --url, --key and --model"),
        (("--output", "no/folder.json"), "no/folder.json cannot be written: there is no folder no"),
        (("--html", "."), ". cannot be written: it is a folder"),
        (("--compare", "none.json"), "none.json cannot be read: No such file or directory"),
    ],
)
def test_what_is_typed_wrong(run: Run, words: tuple[str, ...], said: str) -> None:
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert said in err


def test_what_cannot_be_asked_is_told_before_anything_is(run: Run, gateway: Gateway) -> None:
    status, _, err = run("--url", gateway.url, "--model", "good", "--key", "sk-\u00e9", *SHORT)
    assert (status, err) == (1, "the key holds characters that no header can hold\n")
    status, _, err = run("--url", gateway.url, "--model", "good", "--concurrency", "100000000", *SHORT)
    assert status == 1
    assert "--concurrency 100000000 needs as many connections, and this process may have" in err


@pytest.mark.parametrize("url", ["ftp://h", "http://", "127.0.0.1:{port}"])
def test_nobody_to_be_asked(run: Run, url: str) -> None:
    status, out, err = run("--url", url.format(port=free_port()), *SHORT)
    assert (status, out) == (1, "")
    assert url.partition("{")[0] in err


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_rehearsed_in_a_world_of_its_own(run: Run, preset: str) -> None:
    """Short, so its figures say little; that all of them are there says that the world stood."""
    status, out, err = run("--preset", preset, "--simulated", "--duration", "1", "--warm-up", "0", "--json")
    assert err == ""
    report = msgspec.json.decode(out, type=Report)
    assert status == (0 if report.met else 1)
    assert report.preset == preset
    figures = {verdict.slo: verdict.figure for verdict in report.targets}
    own = {"support": ("first_content", "support_cost", "overhead_p99"), "codegen": ("token_efficiency", "batch_saving")}[preset]
    assert None not in [figures[name] for name in (*own, "model_latency", "availability")]
    assert len(figures) == len(report.targets)
    assert report.figures.answered > 0
