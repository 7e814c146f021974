"""What becomes of a gateway whose workers do not come to serve. How it works when they do is in journeys/test_workers.py."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent_gateway.control.load import compile_source
from agent_gateway.control.source import Source
from agent_gateway.workers import process
from agent_gateway.workers import supervisor as module
from agent_gateway.workers.supervisor import Supervisor
from tests.kit.eventually import eventually

TEXT = """
server: {{host: 127.0.0.1, port: {port}, workers: 2}}
state: {{database: 'sqlite:///{folder}/gateway.db'}}
providers: {{sim: {{kind: simulated}}}}
"""


def nobody_serves(host: str, port: int) -> None:
    pytest.fail("nobody serves")


def supervisor(folder: Path, port: int = 0, listening: Callable[[str, int], None] = nobody_serves) -> Supervisor:
    source = Source(str(folder / "gateway.yaml"), TEXT.format(port=port, folder=folder))
    return Supervisor(source, compile_source(source, {}), {}, listening, {})


#: Does as files in its folder say, and tells there what it did; their names end with its place among the workers.
SCRIPTED = """
import asyncio, signal, socket, sys
from pathlib import Path
from agent_gateway.workers import messages
from agent_gateway.workers.member import Member

async def main():
    member = Member(socket.socket(fileno=int(sys.argv[1])))
    begin = await member.begin()
    files = {{
        name: Path({folder!r}, f"{{name}}{{begin.entry}}")
        for name in ("wait", "go on", "fail", "refuse", "try", "tries", "tried", "reloaded", "served")
    }}

    async def may_go_on(asked_for, waited_for):
        if files[asked_for].exists():
            while not files[waited_for].exists():
                await asyncio.sleep(0.005)

    async def reload(body):
        files["tries"].touch()
        asked = messages.reload.decode(body)
        if asked.is_first:
            await may_go_on("try", "tried")
        if files["refuse"].exists():
            return messages.pack(["it is not to my taste"])
        files["reloaded"].write_text(asked.source.text)
        return messages.pack([])

    member.answer(messages.RELOAD, reload)
    await may_go_on("wait", "go on")
    if files["fail"].exists():
        if files["fail"].read_text() == "once":
            files["fail"].unlink()
        sys.exit(3)
    told_to_go = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_go.set)
    await member.ready()
    files["served"].write_text(begin.source.text)
    await told_to_go.wait()

asyncio.run(main())
"""


def workers_are(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    def command(files: Sequence[int]) -> list[str]:
        return [sys.executable, "-c", code, *map(str, files)]

    monkeypatch.setattr(process, "_command", command)


async def test_it_gives_up_when_no_worker_comes_to_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workers_are(monkeypatch, "import sys; sys.exit(3)")
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.001)
    with caplog.at_level(logging.ERROR):
        assert await asyncio.wait_for(supervisor(tmp_path).run(), 30) == 1
    assert "ended with status 3 before it was ready" in caplog.text
    assert "5 workers in a row ended at once, and no other serves: the gateway gives up" in caplog.text


async def test_a_worker_that_never_begins_is_not_left_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workers_are(monkeypatch, "import time; time.sleep(60)")
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(process, "START_TIMEOUT_S", 0.01)
    with caplog.at_level(logging.ERROR):
        assert await asyncio.wait_for(supervisor(tmp_path).run(), 30) == 1
    assert "was ended by SIGKILL before it was ready" in caplog.text


async def test_a_process_that_cannot_be_had_is_a_worker_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process, "_command", lambda files: [str(tmp_path / "python")])
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.001)
    with caplog.at_level(logging.ERROR):
        assert await asyncio.wait_for(supervisor(tmp_path).run(), 30) == 1
    assert "could not be started: [Errno 2] No such file or directory" in caplog.text


@pytest.mark.parametrize("steps", range(8))
async def test_it_can_be_stopped_at_any_time_of_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    workers_are(monkeypatch, "import time; time.sleep(60)")
    supervised = supervisor(tmp_path)
    running = asyncio.create_task(supervised.run())
    for _ in range(steps):
        await asyncio.sleep(0)
    supervised._end(0)
    assert await asyncio.wait_for(running, 30) == 0
    assert not supervised.workers()


async def test_who_does_not_hear_of_a_second_ctrl_c_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ignoring = "import signal, time; [signal.signal(each, signal.SIG_IGN) for each in (2, 15)]"
    deaf = f"{ignoring}; open({str(tmp_path / 'deaf')!r}, 'w'); time.sleep(60)"
    workers_are(monkeypatch, deaf)
    monkeypatch.setattr(module, "AT_ONCE_S", 0.05)
    supervised = supervisor(tmp_path)
    running = asyncio.create_task(supervised.run())
    await there_is(tmp_path / "deaf")
    supervised._interrupt()
    await asyncio.sleep(0.05)
    assert not running.done()
    supervised._interrupt()
    assert await asyncio.wait_for(running, 20) == 0


@asynccontextmanager
async def scripted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Supervisor]:
    """A supervisor of such workers, until it has stopped in good order."""
    workers_are(monkeypatch, SCRIPTED.format(folder=str(folder)))
    (folder / "gateway.yaml").write_text(TEXT.format(port=0, folder=folder))
    supervised = supervisor(folder, listening=lambda host, port: None)
    running = asyncio.create_task(supervised.run())
    try:
        yield supervised
    finally:
        supervised._end(0)
        assert await asyncio.wait_for(running, 20) == 0


async def there_is(file: Path) -> None:
    await eventually(file.exists, file.name)


async def test_a_stop_does_not_wait_for_workers_that_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two is ready, waits for the other, and hears of nothing but its turn."""
    (tmp_path / "wait1").touch()
    async with scripted(tmp_path, monkeypatch) as supervised:
        await eventually(lambda: any(worker.ready_at for worker in supervised.workers()), "one is ready")
        assert not (tmp_path / "served0").exists()
    assert (tmp_path / "served0").exists()


async def test_a_worker_that_comes_to_serve_while_another_tries_a_reload_has_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("wait1", "try0"):
        (tmp_path / name).touch()
    async with scripted(tmp_path, monkeypatch) as supervised:
        await eventually(lambda: any(worker.ready_at for worker in supervised.workers()), "one is ready")
        supervised.reload_soon()
        await there_is(tmp_path / "tries0")
        (tmp_path / "go on1").touch()
        await there_is(tmp_path / "served1")
        assert not (tmp_path / "tries1").exists()
        (tmp_path / "tried0").touch()
        await there_is(tmp_path / "reloaded1")


async def test_a_supervisor_that_fails_takes_the_gateway_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Rather than leave workers that nobody looks after."""

    def nobody_reads(host: str, port: int) -> None:
        raise BrokenPipeError("nobody reads the greeting")

    workers_are(monkeypatch, SCRIPTED.format(folder=str(tmp_path)))
    with caplog.at_level(logging.ERROR):
        assert await asyncio.wait_for(supervisor(tmp_path, listening=nobody_reads).run(), 30) == 1
    assert "the supervisor has failed" in caplog.text
    assert "nobody reads the greeting" in caplog.text


async def test_a_restart_is_told_where_nobody_comes_to_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the place of a worker that was killed, and that the restart had still taken for alive."""
    monkeypatch.setattr(module, "SETTLED_S", 0.0)
    with caplog.at_level(logging.ERROR):
        async with scripted(tmp_path, monkeypatch) as supervised:
            await there_is(tmp_path / "served0")
            for name in ("wait0", "fail0"):
                (tmp_path / name).touch()
            supervised.workers()[0].kill()
            await eventually(lambda: "is replaced" in caplog.text, "its end is heard of")
            supervised.restart_soon()
            await eventually(supervised._places[0].asked.is_set, "another is asked for")
            (tmp_path / "go on0").touch()
            await eventually(lambda: "the restart stops" in caplog.text, "it is told")


def rewrite(folder: Path) -> tuple[str, str]:
    """A configuration of its own: the text before, and the text now."""
    before = (folder / "gateway.yaml").read_text()
    (folder / "gateway.yaml").write_text(f"{before}sessions: {{ttl_s: 4321}}\n")
    return before, (folder / "gateway.yaml").read_text()


def configurations(supervised: Supervisor) -> float:
    (family,) = [family for family in supervised._overview.families() if family.name == "worker_configurations"]
    value = family.values[()]
    assert isinstance(value, int)
    return value


async def test_a_restart_that_fails_in_its_middle_gives_all_the_configuration_back_that_they_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker that followed the first has entry 2; the one that is to follow the second takes the first one's, which is free again."""
    with caplog.at_level(logging.WARNING):
        async with scripted(tmp_path, monkeypatch) as supervised:
            await there_is(tmp_path / "served1")
            (tmp_path / "fail0").touch()
            before, new = rewrite(tmp_path)
            supervised.restart_soon()
            await eventually(lambda: "taken back from 1 of the workers; the old one holds" in caplog.text, "it is told")
            assert (tmp_path / "served2").read_text() == new
            assert (tmp_path / "reloaded2").read_text() == before
            assert not (tmp_path / "reloaded1").exists(), "it never had another"
            assert [worker.source and worker.source.text for worker in supervised.workers()] == [before] * 2
            assert supervised._configuration.settings.sessions.ttl_s != 4321, "nor has who is started later"
            assert configurations(supervised) == 1
    assert "did not come to serve" in caplog.text
    assert "all workers were replaced" not in caplog.text


async def test_a_worker_that_cannot_take_back_what_it_has_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with scripted(tmp_path, monkeypatch) as supervised:
            await there_is(tmp_path / "served1")
            (tmp_path / "fail0").write_text("once")
            (tmp_path / "refuse2").touch()
            before, new = rewrite(tmp_path)
            supervised.restart_soon()
            await eventually(lambda: "taken back from 1 of the workers" in caplog.text, "it is told")
            assert (tmp_path / "served2").read_text() == new
            assert (tmp_path / "served0").read_text() == before
            assert [worker.begin.entry for worker in supervised.workers()] == [1, 0]
            assert configurations(supervised) == 1


async def test_where_nothing_can_be_taken_back_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with scripted(tmp_path, monkeypatch) as supervised:
            await there_is(tmp_path / "served1")
            for name in ("fail0", "refuse2"):
                (tmp_path / name).touch()
            rewrite(tmp_path)
            supervised.restart_soon()
            told = "worker 3 has another configuration than the others, until the next reload or restart: it is not to my taste"
            await eventually(lambda: told in caplog.text, "it is told")
            assert configurations(supervised) == 2
            (tmp_path / "refuse2").unlink()
            supervised.reload_soon()
            await eventually(lambda: "the configuration was reloaded" in caplog.text, "the next reload mends it")
            assert configurations(supervised) == 1


async def test_a_reload_that_one_worker_refuses_leaves_all_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with scripted(tmp_path, monkeypatch) as supervised:
            await there_is(tmp_path / "served1")
            (tmp_path / "refuse1").touch()
            before, _ = rewrite(tmp_path)
            supervised.reload_soon()
            await eventually(lambda: "taken back from 1 of the workers; the old one holds" in caplog.text, "it is told")
            assert (tmp_path / "reloaded0").read_text() == before
            assert [worker.source and worker.source.text for worker in supervised.workers()] == [before] * 2
            assert configurations(supervised) == 1
    assert "the old one stays:\nworker 2: it is not to my taste" in caplog.text
    assert "the configuration was reloaded" not in caplog.text


async def test_a_worker_that_does_not_say_whether_it_has_it_gets_the_old_one_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RELOAD_TIMEOUT_S", 0.5)
    with caplog.at_level(logging.WARNING):
        async with scripted(tmp_path, monkeypatch) as supervised:
            await there_is(tmp_path / "served1")
            rewrite(tmp_path)
            first, _ = supervised.workers()
            assert first.id is not None
            os.kill(first.id, signal.SIGSTOP)
            try:
                supervised.reload_soon()
                await eventually(lambda: "no answer within 0.5 s" in caplog.text, "it is told")
            finally:
                os.kill(first.id, signal.SIGCONT)
            await eventually(lambda: "taken back from 1 of the workers; the old one holds" in caplog.text, "it is told")
            assert configurations(supervised) == 1


async def test_a_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="is in use: stop what listens there"):
        await supervisor(tmp_path, taken.getsockname()[1]).run()


async def test_without_a_folder_to_share_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(OSError, match=r"nothing can be written that the workers could share.*nowhere.*Set TMPDIR"):
        supervisor(tmp_path)


@pytest.mark.parametrize("handed", ["", "nothing that can be read"])
async def test_a_worker_whose_supervisor_is_gone_before_it_begins_says_so(handed: str) -> None:
    here, there = socket.socketpair()
    with there, tempfile.TemporaryFile() as tally:
        here.sendall(handed.encode())
        here.close()
        files = [there.fileno(), tally.fileno()]
        begun = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent_gateway.cli.worker", *map(str, files), pass_fds=files, stderr=asyncio.subprocess.PIPE
        )
    told = (await begun.communicate())[1].decode()
    assert begun.returncode == 1
    assert "this worker cannot begin: begin: " in told
    assert "Traceback" not in told
    assert "never retrieved" not in told
