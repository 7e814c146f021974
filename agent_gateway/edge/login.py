"""How a browser shows that it is logged in: by a cookie that only the gateway's own page can send, and a token beside it for what changes
something.

Promise: a page of another origin, of the same site too, gets nowhere by the cookie of who is logged in.
"""

from __future__ import annotations

from hmac import compare_digest

from agent_gateway.admission.logins import Login
from agent_gateway.core.errors import Forbidden
from agent_gateway.edge.hosts import same_origin
from agent_gateway.edge.request import Headers
from agent_gateway.edge.response import HeadLines

COOKIE = "agent_gateway_login"
CSRF_HEADER = "x-csrf-token"


def login_token(headers: Headers) -> str | None:
    """The cookie's value, where a page of the gateway's own sends it."""
    cookies = headers.get(b"cookie")
    if cookies is None or not same_origin(headers.get(b"origin"), headers.get(b"host")):
        return None
    if headers.get(b"sec-fetch-site", b"same-origin") not in (b"same-origin", b"none"):
        return None
    for cookie in cookies.decode("latin-1").split(";"):
        name, _, value = cookie.strip().partition("=")
        if name == COOKIE and value:
            return value
    return None


def check_csrf(headers: Headers, login: Login) -> None:
    """Of what changes something. Raises `Forbidden`."""
    shown = headers.get(CSRF_HEADER.encode(), b"")
    if not compare_digest(shown, login.csrf.encode()):
        raise Forbidden(
            f"Who is logged in shows the token of the log-in in the header {CSRF_HEADER}, where something is to be changed; "
            "GET /admin/v1/login tells it.",
            param=CSRF_HEADER,
        )


def cookie_line(value: str, lasts_s: float, path: str, *, encrypted: bool) -> HeadLines:
    """`value` "": the cookie goes."""
    more = "; Secure" if encrypted else ""
    return f"set-cookie: {COOKIE}={value}; Path={path}; Max-Age={int(lasts_s)}; HttpOnly; SameSite=Strict{more}\r\n".encode()
