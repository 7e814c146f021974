"""Forms are understood alike however they are cut, and what is no form is refused."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_gateway.core.errors import BadRequest, UnsupportedMedia
from agent_gateway.wire.multipart import HEAD_BYTES_MAX, PARTS_MAX, MultipartReader, Part

TYPE = b"multipart/form-data; boundary=XX"


def form(*parts: tuple[str, bytes], end: bytes = b"\r\n--XX--\r\n") -> bytes:
    """`parts`: what follows `content-disposition: form-data`, and the content."""
    line = b"--XX\r\nContent-Disposition: form-data; %b\r\nContent-Type: text/plain\r\n\r\n%b"
    return b"\r\n".join(line % (head.encode(), content) for head, content in parts) + end


def understood(pieces: Sequence[bytes], content_type: bytes = TYPE) -> list[tuple[Part, bytes]]:
    reader = MultipartReader(content_type)
    parts: list[tuple[Part, bytes]] = []
    for piece in pieces:
        for found in reader.feed(piece):
            if isinstance(found, Part):
                parts.append((found, b""))
            else:
                part, content = parts[-1]
                parts[-1] = (part, content + found)
    reader.finish()
    return parts


@pytest.mark.parametrize("content", [b"", b"{}\n", b"\r\n", b"--XX", b"\r\n--X", b"\r\n--\r\n--X--\r\n-", b"\r\r\n\n--", bytes(range(256))])
def test_however_it_is_cut(content: bytes) -> None:
    whole = form(('name="purpose"', b"batch"), ('name="file"; filename="a.jsonl"', content), ('name="x"', b""))
    told = [(Part("purpose", None), b"batch"), (Part("file", "a.jsonl"), content), (Part("x", None), b"")]
    assert understood([whole]) == told
    assert understood([bytes([byte]) for byte in whole]) == told
    for cut in range(len(whole)):
        assert understood([whole[:cut], whole[cut:]]) == told


@given(
    contents=st.lists(st.binary(max_size=60).filter(lambda content: b"\r\n--XX" not in content), max_size=4),
    cuts=st.lists(st.integers(0, 400)),
)
def test_any_content_any_cuts(contents: list[bytes], cuts: list[int]) -> None:
    whole = form(*[(f'name="{place}"', content) for place, content in enumerate(contents)])
    places = sorted({0, *(cut for cut in cuts if cut < len(whole)), len(whole)})
    pieces = [whole[start:end] for start, end in pairwise(places)]
    if contents:
        assert [content for _, content in understood(pieces)] == contents


def test_content_is_passed_on_as_it_comes() -> None:
    reader = MultipartReader(TYPE)
    list(reader.feed(form(('name="file"; filename="a"', b""), end=b"")))
    held = sum(len(found) for _ in range(100) for found in reader.feed(b"x" * 1000) if isinstance(found, bytes))
    assert held >= 100 * 1000 - len(b"\r\n--XX")


@pytest.mark.parametrize(
    ("head", "part"),
    [
        ("name=file; filename=a.jsonl", Part("file", "a.jsonl")),
        ('filename="a;b.jsonl"; name="file"', Part("file", "a;b.jsonl")),
        (r'name="file"; filename="a\"b"', Part("file", 'a"b')),
        ('name="file"; filename="a%22b"', Part("file", 'a"b')),
        ('name="file"; filename="x"; filename*=UTF-8\'\'%e4%b8%ad.jsonl', Part("file", "中.jsonl")),
        ('name="file"; filename=""', Part("file", "")),
        ('name="expires_after[seconds]"', Part("expires_after[seconds]", None)),
    ],
)
def test_what_a_part_is_called(head: str, part: Part) -> None:
    assert understood([form((head, b"."))]) == [(part, b".")]


def test_what_stands_before_and_after_means_nothing() -> None:
    assert understood([b"preamble\r\n", form(('name="a"', b"b")), b"epilogue"]) == [(Part("a", None), b"b")]


@pytest.mark.parametrize(
    "content_type", [b'multipart/form-data; charset=x; boundary="XX"', b"Multipart/Form-Data;boundary=XX; charset=utf-8"]
)
def test_how_the_boundary_may_stand(content_type: bytes) -> None:
    assert understood([form(('name="a"', b"b"))], content_type) == [(Part("a", None), b"b")]


@pytest.mark.parametrize(
    "content_type", [b"", b"application/json", b"multipart/form-data", b"multipart/form-data; boundary=", b"multipart/mixed; boundary=XX"]
)
def test_what_is_no_form(content_type: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        MultipartReader(content_type)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form at all",
        form(('name="a"', b"b"), end=b""),
        form(('name="a"', b"b"), end=b"\r\n--XX"),
        b"--XXnonsense\r\n\r\n",
        b"--XX\r\nx: y\r\n\r\n\r\n--XX--",
        b"--XX\r\ncontent-disposition: form-data\r\n\r\n\r\n--XX--",
        b"--XX\r\nx: " + b"y" * HEAD_BYTES_MAX + b"\r\n\r\n\r\n--XX--",
        b"--XX\r\n" + b"y" * (HEAD_BYTES_MAX + 1),
        form(*[('name="a"', b"b")] * (PARTS_MAX + 1)),
    ],
)
def test_what_cannot_be_read(body: bytes) -> None:
    with pytest.raises(BadRequest):
        understood([body])
