"""What all webhooks of the gateway's have in common: which addresses will do, and how what is sent is signed."""

from __future__ import annotations

from hashlib import sha256
from hmac import digest
from urllib.parse import urlsplit

SECRET_MIN_CHARS = 16


def check_webhook(url: str, secret: str | None) -> None:
    """Raises `ValueError`, whose text begins with the field that is wrong."""
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, right = urlsplit(""), False
    if not right or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("url: is not an address; use https://…")
    if parts.username is not None or parts.fragment:
        raise ValueError("url: holds a user or a fragment; a service that must know who asks checks the signature (secret)")
    if secret is not None and len(secret) < SECRET_MIN_CHARS:
        raise ValueError(f"secret: is shorter than {SECRET_MIN_CHARS} characters; make one: openssl rand -hex 24")


def is_open_to_others(url: str) -> bool:
    """What is sent there can be read on the way."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1")


def signed(body: bytes, secret: str | None, wall: float) -> dict[str, str]:
    """Headers of a JSON body. The signature is over the time as well, so that what was once sent is not good for ever."""
    at = str(int(wall))
    headers = {"content-type": "application/json", "x-gateway-timestamp": at}
    if secret is not None:
        headers["x-gateway-signature"] = f"sha256={digest(secret.encode(), at.encode() + b'.' + body, sha256).hex()}"
    return headers
