"""Replies as providers give them, kept as bytes under `tests/recordings/`: a head, an empty line, a body. `*.http`, one a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.kit import replies
from tests.kit.provider import Peer, Script

FOLDER = Path(__file__).parent.parent / "recordings"


@dataclass(frozen=True)
class Recording:
    """`head` without what frames the body: how that is cut on the wire is the test's to say."""

    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    @property
    def is_stream(self) -> bool:
        return b"text/event-stream" in self.head

    @property
    def frames(self) -> list[bytes]:
        """Of a stream: its events."""
        return [frame + b"\n\n" for frame in self.body.split(b"\n\n") if frame.strip()]

    @property
    def payloads(self) -> list[bytes]:
        """Of a stream: the JSON of each event."""
        data = [line for line in self.body.split(b"\n") if line.startswith(b"data: ")]
        return [line.removeprefix(b"data: ") for line in data if line != b"data: [DONE]"]

    def script(self, *, chunk_bytes: int | None = None) -> Script:
        """A whole body as it stands, a stream event by event; or cut anywhere, so many bytes at a time."""
        pieces = self.frames if self.is_stream else [self.body]
        if chunk_bytes:
            pieces = [self.body[start : start + chunk_bytes] for start in range(0, len(self.body), chunk_bytes)]
        framed = b"".join(map(replies.chunk, pieces)) + replies.LAST_CHUNK

        async def script(peer: Peer) -> None:
            await peer.send(self.head + b"\r\ntransfer-encoding: chunked\r\n\r\n" + framed)

        return script


def recording(name: str) -> Recording:
    """`anthropic/messages` and its likes."""
    head, _, body = (FOLDER / f"{name}.http").read_bytes().partition(b"\n\n")
    return Recording(head.replace(b"\n", b"\r\n"), body)


def recordings(kind: str) -> dict[str, Recording]:
    """All of one kind of provider, by name."""
    return {file.stem: recording(f"{kind}/{file.stem}") for file in sorted((FOLDER / kind).glob("*.http"))}
