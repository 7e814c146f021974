"""Replies of every framing, split at every byte, cut at every byte: only the complete ones are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import pytest

from agent_gateway.core.errors import ConnectionCut, GatewayError, MalformedReply
from agent_gateway.upstream.connection import HEADERS_MAX, HELD_MAX_BYTES, WRITE_SLICE_BYTES, Connection
from agent_gateway.upstream.reply import ReadTimeout, Reply

HEADER_MAX_BYTES = 65536
PLENTY_S = 20.0
POST = b"POST / HTTP/1.1\r\nhost: a\r\n\r\n"


class _Socket(asyncio.Transport):
    """Stands for the transport of a connection whose bytes a test feeds by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False
        self.blocking = False
        self.unsent = 0
        self.protocol: Connection | None = None
        self._reading = True

    def write(self, data: Any) -> None:
        self.written += bytes(data)
        if self.blocking and self.protocol is not None:
            self.protocol.pause_writing()

    def is_closing(self) -> bool:
        """Writes are made at the end of the loop's turn; a test may have fed the reply, and ended the connection, before it."""
        return False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True

    def is_reading(self) -> bool:
        return self._reading


class _Keeper:
    def __init__(self) -> None:
        self.events: list[str] = []

    def freed(self, connection: Connection) -> None:
        self.events.append("freed")

    def ended(self, connection: Connection) -> None:
        self.events.append("ended")


def _connect() -> tuple[Connection, _Socket, _Keeper]:
    connection = Connection(asyncio.get_running_loop(), HEADER_MAX_BYTES)
    socket, keeper = _Socket(), _Keeper()
    connection.connection_made(socket)
    socket.protocol = connection
    connection.keeper = keeper
    return connection, socket, keeper


async def _ask(connection: Connection, head: bytes = POST) -> asyncio.Task[Reply]:
    asked = asyncio.create_task(connection.request(head, b"", monotonic() + PLENTY_S))
    await asyncio.sleep(0)
    return asked


def _feed(connection: Connection, pieces: list[bytes]) -> None:
    for piece in pieces:
        if piece and not connection.closed:
            connection.data_received(piece)


async def _body(reply: Reply) -> bytes:
    received = b""
    while data := await reply.next(monotonic() + PLENTY_S):
        received += data
    return received


@dataclass(frozen=True)
class Recorded:
    raw: bytes
    body: bytes = b""
    status: int = 200
    headers: dict[bytes, bytes] = field(default_factory=dict)
    reusable: bool = True
    head: bytes = POST
    #: Complete only when the connection ends.
    ends_with_connection: bool = False


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = b'data: {"a":1}\n\ndata: [DONE]\n\n'

RECORDED = {
    "content-length": Recorded(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello", b"hello", headers={b"x-a": b"b"}),
    "empty body": Recorded(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    "no reason phrase": Recorded(b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok", b"ok"),
    "blank lines before": Recorded(b"\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", b"ok"),
    "repeated header": Recorded(
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 0\r\n\r\n",
        headers={b"set-cookie": b"a=1, b=2"},
    ),
    "empty header": Recorded(b"HTTP/1.1 200 OK\r\nX-A:\r\nX-B:  v  \r\ncontent-length: 0\r\n\r\n", headers={b"x-a": b"", b"x-b": b"v"}),
    "error status": Recorded(b"HTTP/1.1 429 Slow Down\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\n{}", b"{}", 429),
    "redirect": Recorded(b"HTTP/1.1 307 X\r\nlocation: http://other/\r\ncontent-length: 0\r\n\r\n", status=307),
    "chunked": Recorded(CHUNKED + b"e\r\n" + EVENTS[:14] + b"\r\n0F\r\n" + EVENTS[14:] + b"\r\n0\r\n\r\n", EVENTS),
    "chunked, extension": Recorded(CHUNKED + b'5;a=b;c="d"\r\nhello\r\n0\r\n\r\n', b"hello"),
    "chunked, trailers": Recorded(CHUNKED + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Empty:\r\n\r\n", b"hello"),
    "chunked, empty": Recorded(CHUNKED + b"0\r\n\r\n"),
    "close-delimited": Recorded(
        b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\nhello", b"hello", reusable=False, ends_with_connection=True, headers={b"x-a": b"b"}
    ),
    "connection: close": Recorded(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", b"ok", reusable=False),
    "chunked, connection: close": Recorded(
        b"HTTP/1.1 200 OK\r\nConnection: Close\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"ok", reusable=False
    ),
    "http/1.0": Recorded(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", b"ok", reusable=False),
    "http/1.0, close-delimited": Recorded(b"HTTP/1.0 200 OK\r\n\r\nok", b"ok", reusable=False, ends_with_connection=True),
    "http/1.0, keep-alive": Recorded(b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", b"ok"),
    "204": Recorded(b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n", status=204, headers={b"x-a": b"b"}),
    "304 with a length": Recorded(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n", status=304),
    "100 before": Recorded(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", b"ok"),
    "103 before": Recorded(
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"ok",
    ),
    "HEAD": Recorded(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", reusable=False, head=b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n"),
    "HEAD, chunked": Recorded(CHUNKED, reusable=False, head=b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n"),
}

every_framing = pytest.mark.parametrize("recorded", RECORDED.values(), ids=RECORDED.keys())


def _splits(raw: bytes) -> Iterator[list[bytes]]:
    yield [raw[index : index + 1] for index in range(len(raw))]
    for cut in range(len(raw)):
        yield [raw[:cut], raw[cut:]]


@every_framing
async def test_a_reply_is_the_same_wherever_it_is_split(recorded: Recorded) -> None:
    for pieces in _splits(recorded.raw):
        connection, socket, keeper = _connect()
        asked_at = monotonic()
        asked = await _ask(connection, recorded.head)
        _feed(connection, pieces)
        if recorded.ends_with_connection:
            connection.eof_received()
        reply = await asked
        assert (reply.status, await _body(reply)) == (recorded.status, recorded.body), pieces
        assert recorded.headers.items() <= reply.headers.items()
        assert not {b"x-sum", b"link"} & reply.headers.keys(), "trailers and 1xx are not the reply's"
        assert keeper.events == (["freed"] if recorded.reusable else ["ended"]), pieces
        assert socket.aborted is not recorded.reusable
        assert socket.written == recorded.head
        assert asked_at <= reply.first_byte_at <= monotonic()


@every_framing
async def test_a_body_taken_while_it_comes_is_the_same(recorded: Recorded) -> None:
    connection, _, _ = _connect()
    asked = await _ask(connection, recorded.head)
    taken: asyncio.Task[bytes] | None = None
    for index in range(len(recorded.raw)):
        _feed(connection, [recorded.raw[index : index + 1]])
        await asyncio.sleep(0)
        if taken is None and asked.done():
            taken = asyncio.create_task(_body(asked.result()))
    connection.eof_received()
    taken = taken or asyncio.create_task(_body(await asked))
    assert await taken == recorded.body


@every_framing
@pytest.mark.parametrize("error", [None, ConnectionResetError("reset by peer")], ids=["end of file", "reset"])
async def test_a_reply_cut_at_any_byte_is_not_complete(recorded: Recorded, error: Exception | None) -> None:
    for cut in range(len(recorded.raw)):
        connection, _, keeper = _connect()
        asked = await _ask(connection, recorded.head)
        _feed(connection, [recorded.raw[:cut]])
        connection.connection_lost(error)
        headers_came = b"\r\n\r\n" in recorded.raw[:cut].lstrip(b"\r\n").rpartition(b"HTTP/1.")[2]
        if recorded.ends_with_connection and headers_came and error is None:
            assert recorded.body.startswith(await _body(await asked))
            continue
        with pytest.raises(ConnectionCut) as caught:
            await _body(await asked)
        assert connection.closed
        assert keeper.events == (["ended"] if headers_came or cut else [])
        assert not any(word in caught.value.message for word in ("reset", "127.0.0.1"))


@pytest.mark.parametrize("name", ["content-length", "chunked"])
async def test_what_came_before_a_cut_is_handed_out_first(name: str) -> None:
    raw = RECORDED[name].raw
    connection, _, _ = _connect()
    asked = await _ask(connection)
    _feed(connection, [raw[: raw.index(b"\r\n\r\n") + 4 + (3 if name == "content-length" else 6)]])
    connection.connection_lost(None)
    reply = await asked
    assert RECORDED[name].body.startswith(await reply.next(monotonic() + PLENTY_S))
    for _ in range(2):
        with pytest.raises(ConnectionCut):
            await reply.next(monotonic() + PLENTY_S)


async def test_a_kept_connection_parses_one_reply_after_the_other() -> None:
    connection, _, keeper = _connect()
    kept = [recorded for recorded in RECORDED.values() if recorded.reusable]
    for recorded in kept * 2:
        asked = await _ask(connection)
        _feed(connection, [recorded.raw])
        reply = await asked
        assert (reply.status, await _body(reply)) == (recorded.status, recorded.body)
    assert keeper.events == ["freed"] * len(kept) * 2


MALFORMED = {
    "not http": b"SSH-2.0-OpenSSH_9.6\r\n",
    "http/0.9": b"<html>",
    "http/2": b"HTTP/2 200\r\n\r\n",
    "status of letters": b"HTTP/1.1 2xx OK\r\n\r\n",
    "status 000": b"HTTP/1.1 000 OK\r\ncontent-length: 0\r\n\r\n",
    "header without a colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
    "header with a space in its name": b"HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
    "header with a NUL": b"HTTP/1.1 200 OK\r\na: \0\r\n\r\n",
    "folded header": b"HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nok",
    "length and chunked": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\nok",
    "negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    "length that overflows": b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
    "gzip as transfer encoding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok",
    "gzip, chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunk size of letters": CHUNKED + b"xyz\r\n",
    "chunk size that overflows": CHUNKED + b"fffffffffffffffff\r\n",
    "chunk longer than it says": CHUNKED + b"2\r\nokay\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nxx",
    "switching protocols to nothing": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "too many header lines": b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: a\r\n" % i for i in range(HEADERS_MAX + 1)) + b"\r\n",
    "one header too often": b"HTTP/1.1 200 OK\r\n" + b"x: a\r\n" * (HEADERS_MAX + 2) + b"\r\n",
    "headers too big": b"HTTP/1.1 200 OK\r\nx: " + b"a" * HEADER_MAX_BYTES + b"\r\ncontent-length: 0\r\n\r\n",
    "header without an end": b"HTTP/1.1 200 OK\r\nx: " + b"a" * (HEADER_MAX_BYTES + 1),
    "reason without an end": b"HTTP/1.1 200 " + b"a" * (HEADER_MAX_BYTES + 1),
    "1xx without an end": b"HTTP/1.1 100 Continue\r\n\r\n" * (HEADER_MAX_BYTES // 20),
    "trailer without an end": CHUNKED + b"0\r\nx: " + b"a" * (HEADER_MAX_BYTES + 1),
    "one trailer too often": CHUNKED + b"0\r\n" + b"x: a\r\n" * (HEADERS_MAX * 2),
    "chunk extension without an end": CHUNKED + b"2;" + b"a" * (HEADER_MAX_BYTES + 1),
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("piece_bytes", [1 << 20, 1000, 7])
async def test_what_is_not_http_is_refused_and_the_connection_closed(raw: bytes, piece_bytes: int) -> None:
    connection, socket, keeper = _connect()
    asked = await _ask(connection)
    _feed(connection, [raw[index : index + piece_bytes] for index in range(0, len(raw), piece_bytes)])
    with pytest.raises(MalformedReply) as caught:
        await _body(await asked)
    assert caught.value.detail
    assert socket.aborted
    assert keeper.events == ["ended"]


async def test_a_big_body_that_comes_with_its_headers_is_not_taken_for_big_headers() -> None:
    connection, _, keeper = _connect()
    asked = await _ask(connection)
    _feed(connection, [b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n" + b"a" * 200_000])
    assert len(await _body(await asked)) == 200_000
    assert keeper.events == ["freed"]


@pytest.mark.parametrize("surplus", [b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b"x", b"HTTP"])
async def test_bytes_after_the_reply_end_the_connection_not_the_reply(surplus: bytes) -> None:
    connection, socket, keeper = _connect()
    asked = await _ask(connection)
    _feed(connection, [RECORDED["content-length"].raw + surplus])
    assert await _body(await asked) == b"hello"
    assert keeper.events == ["ended"]
    assert socket.aborted


async def test_bytes_on_an_idle_connection_end_it() -> None:
    connection, socket, keeper = _connect()
    asked = await _ask(connection)
    _feed(connection, [RECORDED["content-length"].raw])
    await asked
    connection.data_received(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert keeper.events == ["freed", "ended"]
    assert socket.aborted


async def test_read_returns_the_whole_body_up_to_its_bound() -> None:
    for bound, fits in ((5, True), (4, False)):
        for pieces in _splits(RECORDED["content-length"].raw):
            connection, socket, _ = _connect()
            asked = await _ask(connection)
            _feed(connection, pieces[:-1])
            reading = asyncio.create_task(_read(asked, bound))
            await asyncio.sleep(0)
            _feed(connection, pieces[-1:])
            if fits:
                assert await reading == b"hello"
            else:
                with pytest.raises(MalformedReply):
                    await reading
            assert socket.is_reading() or socket.aborted


async def _read(asked: asyncio.Task[Reply], max_bytes: int) -> bytes:
    return await (await asked).read(monotonic() + PLENTY_S, max_bytes)


async def test_a_body_over_the_bound_is_given_up_before_it_has_all_come() -> None:
    connection, socket, keeper = _connect()
    asked = await _ask(connection)
    _feed(connection, [b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n"])
    reading = asyncio.create_task(_read(asked, 300_000))
    for _ in range(5):
        await asyncio.sleep(0)
        _feed(connection, [b"a" * 70_000])
    with pytest.raises(MalformedReply):
        await reading
    assert socket.aborted
    assert keeper.events == ["ended"]


async def test_a_consumer_who_does_not_take_the_body_stops_the_reading() -> None:
    connection, socket, keeper = _connect()
    asked = await _ask(connection)
    _feed(connection, [b"HTTP/1.1 200 OK\r\ncontent-length: 400000\r\n\r\n", b"a" * HELD_MAX_BYTES])
    assert socket.is_reading()
    _feed(connection, [b"a"])
    assert not socket.is_reading()
    reply = await asked
    assert len(await reply.next(monotonic() + PLENTY_S)) == HELD_MAX_BYTES + 1
    assert socket.is_reading()
    _feed(connection, [b"a" * (400_000 - HELD_MAX_BYTES - 1)])
    assert len(await _body(reply)) == 400_000 - HELD_MAX_BYTES - 1
    assert keeper.events == ["freed"]


async def test_a_reply_that_ends_while_it_is_held_back_leaves_a_connection_that_is_read() -> None:
    """TLS hands out what it had decrypted after reading was paused; an idle connection must hear of its end."""
    connection, socket, keeper = _connect()
    asked = await _ask(connection)
    _feed(connection, [b"HTTP/1.1 200 OK\r\ncontent-length: 300001\r\n\r\n", b"a" * 300_000])
    assert not socket.is_reading()
    _feed(connection, [b"a"])
    assert keeper.events == ["freed"]
    assert socket.is_reading()
    assert len(await _body(await asked)) == 300_001


async def test_a_body_read_whole_is_not_held_back_below_its_bound() -> None:
    connection, socket, _ = _connect()
    asked = await _ask(connection)
    _feed(connection, [b"HTTP/1.1 200 OK\r\ncontent-length: 900000\r\n\r\n", b"a" * 300_000])
    assert not socket.is_reading()
    reading = asyncio.create_task(_read(asked, 1_000_000))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert socket.is_reading()
    _feed(connection, [b"a" * 600_000])
    assert len(await reading) == 900_000


async def test_a_timeout_leaves_the_reply_as_it_was() -> None:
    connection, socket, _ = _connect()
    asked = await _ask(connection)
    _feed(connection, [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"])
    reply = await asked
    until = monotonic() + 0.01
    with pytest.raises(ReadTimeout):
        await reply.next(until)
    assert monotonic() >= until, "never early: the caller compares its deadlines with the same clock"
    with pytest.raises(ReadTimeout):
        await reply.read(monotonic() - 1, 100)
    assert not socket.aborted
    _feed(connection, [b"hello"])
    assert await reply.next(monotonic() - 1) == b"hello", "what is there needs no waiting"
    assert await reply.next(monotonic() - 1) == b""


async def test_one_timer_serves_waits_with_later_and_earlier_ends() -> None:
    connection, _, _ = _connect()
    asked = await _ask(connection)  # sets the timer far off
    _feed(connection, [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"])
    reply = await asked
    with pytest.raises(ReadTimeout):
        await reply.next(monotonic() + 0.005)  # earlier than the timer
    waiting = asyncio.create_task(reply.next(monotonic() + 0.02))
    await asyncio.sleep(0)
    _feed(connection, [b"he"])
    assert await waiting == b"he"
    until = monotonic() + 0.05  # later than the timer that is running
    with pytest.raises(ReadTimeout):
        await reply.next(until)
    assert monotonic() >= until


async def test_no_headers_in_time_closes_the_connection() -> None:
    connection, socket, keeper = _connect()
    with pytest.raises(ReadTimeout):
        await connection.request(POST, b"", monotonic() + 0.01)
    assert socket.aborted
    assert keeper.events == ["ended"]


@pytest.mark.parametrize("took_all", [True, False])
async def test_closing_a_reply(took_all: bool) -> None:
    connection, socket, keeper = _connect()
    asked = await _ask(connection)
    raw = RECORDED["content-length"].raw
    _feed(connection, [raw if took_all else raw[:-1]])
    reply = await asked
    for _ in range(2):
        reply.close()
    assert socket.aborted is not took_all
    assert keeper.events == (["freed"] if took_all else ["ended"])


async def test_closing_a_reply_wakes_who_waits_for_it() -> None:
    connection, _, _ = _connect()
    asked = await _ask(connection)
    _feed(connection, [CHUNKED])
    reply = await asked
    waiting = asyncio.create_task(reply.next(monotonic() + PLENTY_S))
    await asyncio.sleep(0)
    reply.close()
    with pytest.raises(GatewayError):
        await waiting


async def test_a_cancelled_request_does_not_close_a_connection_that_is_already_free() -> None:
    """The reply was complete before the cancellation came through: by then, the connection may serve another request."""
    connection, socket, keeper = _connect()
    asked = await _ask(connection)
    _feed(connection, [RECORDED["content-length"].raw])
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert keeper.events == ["freed"]
    assert not socket.aborted


@pytest.mark.parametrize("came", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe"])
async def test_a_cancelled_request_closes_its_connection(came: bytes) -> None:
    connection, socket, keeper = _connect()
    asked = await _ask(connection)
    _feed(connection, [came])
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert socket.aborted
    assert keeper.events == ["ended"]


async def _upload(connection: Connection, body: bytes) -> asyncio.Task[Reply]:
    asked = asyncio.create_task(connection.request(POST, body, monotonic() + PLENTY_S))
    await asyncio.sleep(0)
    return asked


async def test_a_large_request_is_written_as_fast_as_it_is_taken() -> None:
    connection, socket, keeper = _connect()
    socket.blocking = True
    asked = await _upload(connection, b"a" * (2 * WRITE_SLICE_BYTES + 1))
    sizes = []
    for _ in range(4):
        sizes.append(len(socket.written) - len(POST))
        connection.resume_writing()
        await asyncio.sleep(0)
    assert sizes == [0, WRITE_SLICE_BYTES, 2 * WRITE_SLICE_BYTES, 2 * WRITE_SLICE_BYTES + 1]
    _feed(connection, [RECORDED["content-length"].raw])
    assert await _body(await asked) == b"hello"
    assert keeper.events == ["freed"]


@pytest.mark.parametrize("name", ["error status", "content-length"])
async def test_a_connection_with_half_a_request_on_it_is_not_used_again(name: str) -> None:
    """The reply came before the request was sent whole: a refusal ends the sending, an answer does not."""
    connection, socket, keeper = _connect()
    socket.blocking = True
    size = 2 * WRITE_SLICE_BYTES
    asked = await _upload(connection, b"a" * size)
    head, _, body = RECORDED[name].raw.partition(b"\r\n\r\n")
    _feed(connection, [head + b"\r\n\r\n"])
    await asyncio.sleep(0)
    for _ in range(3):
        connection.resume_writing()
        await asyncio.sleep(0)
    refused = name == "error status"
    assert len(socket.written) == len(POST) + (0 if refused else size)
    _feed(connection, [body])
    assert await _body(await asked) == RECORDED[name].body
    assert keeper.events == (["ended"] if refused else ["freed"])


async def test_a_connection_whose_request_is_not_sent_yet_is_not_used_again() -> None:
    connection, socket, keeper = _connect()
    socket.unsent = 1
    asked = await _ask(connection)
    _feed(connection, [RECORDED["error status"].raw])
    assert await _body(await asked) == b"{}"
    assert keeper.events == ["ended"]


async def test_a_taker_is_offered_what_comes_while_someone_waits() -> None:
    connection, _, _ = _connect()
    asked = await _ask(connection)
    _feed(connection, [CHUNKED, b"1\r\na\r\n"])
    reply = await asked
    offered: list[bytes] = []

    def take(data: bytes) -> float | None:
        offered.append(data)
        return None if data == b"no" else monotonic() + PLENTY_S

    reply.pass_to(take)
    _feed(connection, [b"1\r\nb\r\n"])
    assert await reply.next(monotonic() + PLENTY_S) == b"ab"  # nobody waited
    waiting = asyncio.ensure_future(reply.next(monotonic() + 0.05))
    await asyncio.sleep(0)
    _feed(connection, [b"2\r\ncd\r\n"])
    await asyncio.sleep(0.1)  # what is taken gives the wait more time
    assert not waiting.done()
    _feed(connection, [b"2\r\nno\r\n", b"1\r\ne\r\n"])
    assert await waiting == b"noe"  # in order: what follows is not offered before that was dealt with
    assert offered == [b"cd", b"no"]
    waiting = asyncio.ensure_future(reply.next(monotonic() + PLENTY_S))
    await asyncio.sleep(0)
    _feed(connection, [b"1\r\nf\r\n0\r\n\r\n"])
    assert await waiting == b"f"  # with its end
    assert connection.taker is None


async def test_who_was_cancelled_is_offered_nothing() -> None:
    connection, _, _ = _connect()
    asked = await _ask(connection)
    _feed(connection, [CHUNKED, b"1\r\na\r\n"])
    reply = await asked
    await reply.next(monotonic() + PLENTY_S)
    offered: list[bytes] = []
    reply.pass_to(lambda data: offered.append(data))
    waiting = asyncio.ensure_future(reply.next(monotonic() + PLENTY_S))
    await asyncio.sleep(0)
    waiting.cancel()
    _feed(connection, [b"1\r\nb\r\n"])
    await asyncio.wait([waiting])
    assert offered == []
    assert connection.closed
