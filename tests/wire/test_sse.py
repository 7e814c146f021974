"""SSE framing: however bytes arrive split, the frames are those of the standard, byte for byte."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.wire.sse import FrameSplitter, FrameTooLarge, data_frame, frame_data

LINE_ENDS = (b"\n", b"\r\n", b"\r")
LINES = (b"data: {}", b"data: x", b"data:", b": ping", b"event: y", b"data: \xc3\xa9", b"", b"", b"")

whole_lines = st.lists(st.builds(lambda line, end: line + end, st.sampled_from(LINES), st.sampled_from(LINE_ENDS)), max_size=14)
#: Any mixture of line ends, with or without an unfinished rest.
streams = st.builds(
    lambda lines, rest: b"".join(lines) + rest, whole_lines, st.sampled_from([b"", b"", b"data: cut", b"d", b"\r"])
)


def by_the_standard(stream: bytes) -> tuple[list[bytes], bytes]:
    """Frames and rest of a stream that has ended, line by line (WHATWG HTML §9.2.6)."""
    frames: list[bytes] = []
    frame = line = b""
    position = 0
    while position < len(stream):
        end = next((end for end in (b"\r\n", b"\n", b"\r") if stream.startswith(end, position)), None)
        line = stream[position : position + 1] if end is None else end
        frame += line
        if end is not None:
            blank = frame in LINE_ENDS or frame.removesuffix(end).endswith((b"\n", b"\r"))
            if blank:
                frames.append(frame)
                frame = b""
        position += len(line)
    return frames, frame


def split_at(stream: bytes, places: list[int]) -> list[bytes]:
    cuts = sorted({0, len(stream), *[place % (len(stream) + 1) for place in places]})
    return [stream[start:end] for start, end in pairwise(cuts)]


@given(streams, st.lists(st.integers(0, 200), max_size=6))
def test_any_split_gives_the_frames_of_the_standard(stream: bytes, places: list[int]) -> None:
    splitter = FrameSplitter()
    frames = [frame for data in split_at(stream, places) for frame in FrameSplitter.split(splitter.feed(data))]
    frames += FrameSplitter.split(splitter.end())
    assert (frames, splitter.pending) == by_the_standard(stream)


@given(streams)
def test_split_at_every_byte(stream: bytes) -> None:
    splitter = FrameSplitter()
    frames = [frame for byte in stream for frame in FrameSplitter.split(splitter.feed(bytes([byte])))]
    frames += FrameSplitter.split(splitter.end())
    assert (frames, splitter.pending) == by_the_standard(stream)


@given(streams, st.lists(st.integers(0, 200), max_size=6))
def test_every_byte_comes_out_once_and_in_order(stream: bytes, places: list[int]) -> None:
    splitter = FrameSplitter()
    passed = b"".join([splitter.feed(data) for data in split_at(stream, places)])
    assert passed + splitter.pending == stream


def test_a_read_that_ends_on_a_boundary_is_handed_back_itself() -> None:
    data = b"data: 1\n\ndata: 2\n\n"
    assert FrameSplitter().feed(data) is data


def test_a_frame_is_given_as_soon_as_it_is_whole() -> None:
    splitter = FrameSplitter()
    assert splitter.feed(b"data: 1\n\ndata:") == b"data: 1\n\n"
    assert splitter.pending == b"data:"
    assert splitter.feed(b" 2\n") == b""
    assert splitter.feed(b"\n") == b"data: 2\n\n"
    assert splitter.pending == b""


def test_a_carriage_return_waits_for_its_line_feed() -> None:
    splitter = FrameSplitter()
    assert splitter.feed(b"data: 1\r\n\r") == b""
    assert splitter.feed(b"\ndata: 2\r\r") == b"data: 1\r\n\r\n"
    assert splitter.end() == b"data: 2\r\r"
    assert splitter.pending == b""


def test_an_unfinished_frame_stays_pending_at_the_end() -> None:
    splitter = FrameSplitter()
    splitter.feed(b"data: 1\r")
    assert splitter.end() == b""
    assert splitter.pending == b"data: 1\r"


@pytest.mark.parametrize(
    "reads", [[b"data: 123456\n\n"], [b"data: 12", b"3456"], [b"a\n\ndata: 123456\n\nb\n\n"], [b"d\n\n" + b"x" * 11]]
)
def test_a_frame_over_the_bound_is_refused(reads: list[bytes]) -> None:
    splitter = FrameSplitter(frame_max_bytes=10)

    def feed() -> None:
        for data in reads:
            splitter.feed(data)

    with pytest.raises(FrameTooLarge, match="over the limit of 10"):
        feed()


def test_many_small_frames_in_one_read_are_within_the_bound() -> None:
    data = b"data: 1\n\n" * 50
    splitter = FrameSplitter(frame_max_bytes=10)
    assert splitter.feed(data + b"data:") == data
    assert splitter.feed(b" 2\n\n" + data) == b"data: 2\n\n" + data


@given(st.lists(st.binary(max_size=20).filter(lambda line: not set(line) & {10, 13}), min_size=1, max_size=4))
def test_what_a_data_frame_carries_is_read_back(lines: list[bytes]) -> None:
    frame = data_frame(b"\n".join(lines))
    assert FrameSplitter.split(frame) == [frame]
    assert frame_data(frame) == b"\n".join(lines)


def test_frames_without_data() -> None:
    assert frame_data(b": ping\n\n") is None
    assert frame_data(b"\r\n") is None
    assert frame_data(b"event: done\ndata\n\n") == b""
    assert frame_data(b"event: x\r\ndata:1\r\ndata: 2\r\n\r\n") == b"1\n2"
