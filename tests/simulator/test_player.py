"""When bytes come: at their times, together when due together, never past a deadline. No test here sleeps."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest

from agent_gateway.simulator.player import ConnectionDropped, DeadlinePassed, Player
from agent_gateway.simulator.settings import SimulatorSettings
from tests.simulator.stage import STEADY, Time, body_of, chat, events_of, perform, reply_to


async def test_tokens_come_at_the_rate_after_the_first() -> None:
    came = await perform(reply_to(chat(stream=True)), Time())
    assert [at for at, _ in came] == pytest.approx([0.1 + 0.01 * token for token in range(20)])
    assert [len(events_of(data)) for _, data in came] == [2] + [1] * 18 + [3]
    assert b"".join([data for _, data in came]) == body_of(reply_to(chat(stream=True)))


async def test_a_unary_answer_comes_when_its_last_token_would() -> None:
    ((at, data),) = await perform(reply_to(chat()), Time())
    assert at == pytest.approx(0.1 + 0.01 * 19)
    assert data == body_of(reply_to(chat()))


async def test_everything_at_once_is_one_write() -> None:
    settings = msgspec.structs.replace(STEADY, tokens_per_s=0)
    came = await perform(reply_to(chat(stream=True), settings), Time())
    assert [at for at, _ in came] == pytest.approx([0.1])


async def test_a_late_player_catches_up_in_one_write() -> None:
    time = Time()
    player = Player(reply_to(chat(stream=True)), time.clock, time.sleep)
    time.now += 0.155
    assert len(events_of(await player.next())) == 7  # the opening and the tokens at 100 … 150 ms
    assert time.slept == []


async def test_jitter_moves_every_wait() -> None:
    settings = SimulatorSettings(ttft_ms=100, tokens_per_s=100, output_tokens=20, output_spread=0, jitter=0.5)
    at = [at for at, _ in await perform(reply_to(chat(stream=True), settings), Time())]
    gaps = {round(later - earlier, 4) for earlier, later in pairwise(at)}
    assert at[0] != pytest.approx(0.1)
    assert len(gaps) > 10


async def test_a_deadline_before_the_first_byte() -> None:
    time = Time()
    player = Player(reply_to(chat(stream=True)), time.clock, time.sleep)
    with pytest.raises(DeadlinePassed):
        await player.open(until=1000.05)
    assert time.now == pytest.approx(1000.05)
    await player.open(until=1000.2)
    assert time.now == pytest.approx(1000.1)


async def test_a_deadline_in_the_middle_loses_nothing() -> None:
    time = Time()
    player = Player(reply_to(chat(stream=True)), time.clock, time.sleep)
    first = await player.next(until=1001)
    with pytest.raises(DeadlinePassed):
        await player.next(until=1000.105)
    rest = b""
    while data := await player.next():
        rest += data
    assert first + rest == body_of(reply_to(chat(stream=True)))


@pytest.mark.parametrize("steering", ["hang", "hang-4"])
async def test_a_hang_lasts_until_the_deadline(steering: str) -> None:
    time = Time()
    player = Player(reply_to(chat(stream=True), steering=steering), time.clock, time.sleep)

    async def listen() -> None:
        await player.open(until=90_000)
        while True:
            await player.next(until=90_000)

    with pytest.raises(DeadlinePassed):
        await listen()
    assert time.now == pytest.approx(90_000)
    assert max(time.slept) <= 3600


async def test_a_cut_comes_after_what_was_said() -> None:
    time = Time()
    player = Player(reply_to(chat(stream=True), steering="cut-4"), time.clock, time.sleep)
    said = [await player.next() for _ in range(3)]
    with pytest.raises(ConnectionDropped):
        await player.next()
    assert len(events_of(b"".join(said))) == 4


async def test_a_cut_before_anything_still_waits_for_the_headers() -> None:
    time = Time()
    player = Player(reply_to(chat(stream=True), steering="cut-0"), time.clock, time.sleep)
    await player.open()
    assert time.now == pytest.approx(1000.1)
    with pytest.raises(ConnectionDropped):
        await player.next()


async def test_a_closed_player_says_nothing_more() -> None:
    time = Time()
    player = Player(reply_to(chat(stream=True)), time.clock, time.sleep)
    await player.next()
    player.close()
    player.close()
    assert await player.next() == b""
