"""`agent-gateway batch submit`, as it is typed, against a running gateway: submitted once, watched as often as one likes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from agent_gateway.cli import batch as command
from agent_gateway.cli.batch_client import BatchClient
from agent_gateway.cli.main import INTERRUPTED, main
from tests.kit.batches import ADMIN_KEY, asked, chats, configuration, jsonl, line, new_key, read_jsonl
from tests.kit.gateway import COMMAND, Gateway

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), configuration(), "fast lane")
    try:
        yield gateway.start()
        gateway.assert_log_is_clean()
    finally:
        gateway.close()


@pytest.fixture
def key(gateway: Gateway, tmp_path: Path) -> str:
    """Whose batches are this test's."""
    return new_key(gateway, tmp_path.name)


@pytest.fixture
def submit(gateway: Gateway, key: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `agent-gateway batch submit …`: status, output, error output."""
    monkeypatch.setenv("GATEWAY_URL", gateway.url)
    monkeypatch.setenv("GATEWAY_KEY", key)
    monkeypatch.setattr(command, "LOOK_EVERY_S", 0.05)

    def run(*words: str | Path) -> tuple[int, str, str]:
        try:
            status = main(["batch", "submit", *map(str, words)])
        except SystemExit as end:
            status = int(end.code or 0)
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(jsonl(chats(3)))
    return path


def batches(gateway: Gateway, key: str) -> list[Any]:
    listed = httpx2.get(f"{gateway.url}/v1/batches", headers={"authorization": f"Bearer {key}"})
    batches: list[Any] = listed.json()["data"]
    return batches


def test_what_was_submitted_is_watched_later_and_not_submitted_again(submit: Run, gateway: Gateway, key: str, file: Path) -> None:
    status, out, _ = submit(file)
    (batch,) = batches(gateway, key)
    assert (status, out.split()[0]) == (0, batch["id"])
    status, out, err = submit(file, "--watch")
    assert (status, len(batches(gateway, key))) == (0, 1)
    assert f"{batch['id']} was submitted before" in err
    assert f"{batch['id']} is completed: 3 of 3 answered, 0 failed, $0.0" in out
    results = read_jsonl((file.parent / "requests.results.jsonl").read_bytes())
    assert [result["custom_id"] for result in results] == ["item-0", "item-1", "item-2"]
    assert sorted(path.name for path in file.parent.iterdir()) == ["requests.jsonl", "requests.results.jsonl"]
    assert submit(file)[0] == 0
    assert len(batches(gateway, key)) == 2


def test_another_file_is_another_batch(submit: Run, gateway: Gateway, key: str, file: Path) -> None:
    submit(file)
    file.write_bytes(jsonl(chats(4)))
    submit(file)
    submit(file, "--window", "1h")
    submit(file, "--window", "1h")
    assert [batch["completion_window"] for batch in batches(gateway, key)] == ["1h", "24h", "24h"]


def test_the_model_and_the_places_that_are_asked_for(submit: Run, file: Path, tmp_path: Path) -> None:
    file.write_bytes(jsonl([line("good", asked("x", "elsewhere")), line("without", {"messages": asked("y")["messages"]})]))
    output = tmp_path / "answers.txt"
    status, out, _ = submit(file, "--watch", "--model", "chat", "--output", output, "--json")
    told = msgspec.json.decode(out)
    assert (status, told["batch"]["status"], told["batch"]["model"], told["output"]) == (0, "completed", "chat", str(output))
    assert "errors" not in told
    assert {result["response"]["body"]["model"] for result in read_jsonl(output.read_bytes())} == {"chat"}


def test_failed_requests_are_the_answer_no(submit: Run, file: Path) -> None:
    file.write_bytes(jsonl([*chats(1), line("refused", asked("x", "refusing"))]))
    status, out, _ = submit(file, "--watch")
    assert status == 1
    assert "1 of 2 answered, 1 failed" in out
    assert "\nthe first of them: refused: " in out
    errors = read_jsonl((file.parent / "requests.results.errors.jsonl").read_bytes())
    assert [error["custom_id"] for error in errors] == ["refused"]
    file.write_bytes(jsonl(chats(1)))
    assert submit(file, "--watch")[0] == 0
    assert not (file.parent / "requests.results.errors.jsonl").exists(), "no earlier batch's failures beside these answers"


def test_bad_lines_are_told_with_their_numbers(submit: Run, file: Path) -> None:
    file.write_bytes(jsonl(chats(1)) + b"nonsense\n" + jsonl(chats(1)))
    for words in ((), ("--model", "chat")):
        status, out, err = submit(file, "--watch", *words)
        assert (status, " is failed: nothing was run" in out) == (1, True)
        assert "\nline 2: " in err
        assert "\nline 3: custom_id" in err


def test_ctrl_c_leaves_the_batch_to_go_on(gateway: Gateway, key: str, file: Path) -> None:
    file.write_bytes(jsonl(chats(8, "slow")))
    environ = {**os.environ, "GATEWAY_URL": gateway.url, "GATEWAY_KEY": key}
    words = [str(COMMAND), "batch", "submit", str(file), "--watch"]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    first = start()
    until = time.monotonic() + 20
    while not (file.parent / "requests.jsonl.batch.json").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=20)
    assert first.returncode == INTERRUPTED, err
    assert "goes on without you" in err
    again = start()
    out, _ = again.communicate(timeout=30)
    assert again.returncode == 0
    assert "8 of 8 answered" in out
    assert len(batches(gateway, key)) == 1


def test_ctrl_c_while_it_is_submitted_does_not_submit_it_twice(
    submit: Run, gateway: Gateway, key: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway has taken it, and its answer is not read yet."""
    create = BatchClient.create

    def interrupted(client: BatchClient, *asked: str) -> dict[str, Any]:
        made = create(client, *asked)
        os.kill(os.getpid(), signal.SIGINT)
        return made

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # as a command finds it
    try:
        with monkeypatch.context() as once:
            once.setattr(BatchClient, "create", interrupted)
            status, _, err = submit(file, "--watch")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert (status, "goes on without you" in err) == (INTERRUPTED, True)
    assert submit(file, "--watch")[0] == 0
    assert len(batches(gateway, key)) == 1


def test_a_gateway_that_starts_anew_is_waited_for(submit: Run, gateway: Gateway, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(jsonl(chats(4, "slow")))
    look = BatchClient.batch
    looks = 0

    def restarting(client: BatchClient, batch_id: str) -> dict[str, Any]:
        nonlocal looks
        looks += 1
        if looks == 1:  # at once: a batch that is done by then needs no gateway
            gateway.stop()
        elif looks == 3:
            gateway.start()
        return look(client, batch_id)

    monkeypatch.setattr(BatchClient, "batch", restarting)
    status, out, _ = submit(file, "--watch")
    assert (status, "4 of 4 answered" in out) == (0, True)
    assert looks >= 3


@pytest.mark.parametrize("content", [b"nonsense\n", b'{"custom_id": "a"}\n'])
def test_what_is_no_file_of_requests(submit: Run, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    status, _, err = submit(file)
    assert (status, "is no request such as" in err) == (2, True)


def test_files_that_cannot_be_used_are_told_before_anything_is_submitted(
    submit: Run, gateway: Gateway, key: str, file: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"\n")
    none, nowhere = tmp_path / "none.jsonl", tmp_path / "nowhere" / "answers.jsonl"
    for words, why in (
        ((empty,), f"{empty} is empty; each line of it is to be a request"),
        ((none,), f"{none} cannot be read: No such file or directory"),
        ((tmp_path,), f"{tmp_path} cannot be read: Is a directory"),
        ((file, "--output", nowhere), f"--output: {nowhere} cannot be written: there is no folder {nowhere.parent}"),
        ((file, "--output", tmp_path), f"--output: {tmp_path} is a folder; name a file in it"),
    ):
        status, _, err = submit(*words)
        assert (status, err) == (2, f"agent-gateway batch submit: {why}\n")
    assert batches(gateway, key) == []


def test_usage(submit: Run, file: Path, tmp_path: Path) -> None:
    assert submit(tmp_path / "none.jsonl")[0] == 2
    assert submit(file, "--url", "ftp://x")[0] == 2
    status, _, err = submit(file, "--window", "3h")
    assert (status, "'3h' (choose from '10m', '1h', '24h')" in err) == (2, True)
    assert submit()[0] == 2


def test_the_answer_is_no(submit: Run, file: Path) -> None:
    assert submit(file, "--url", "http://127.0.0.1:1")[2].startswith("http://127.0.0.1:1 cannot be reached: ")
    status, _, err = submit(file, "--key", "agw_wrong")
    assert (status, "This is not a key of this gateway" in err) == (1, True)
    assert submit(file, "--key", ADMIN_KEY, "--url", f"{os.environ['GATEWAY_URL']}/v1")[0] == 0
