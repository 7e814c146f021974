"""Requests as attackers write them: framing that two readers could understand in two ways, and JSON that is meant to hurt.

Each with what a careful server says to it. What is refused for its framing ends its connection: nothing behind it can be told apart.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tests.kit.client import CHAT, chat

BODY = msgspec.json.encode(chat())
#: What an attacker would like the server to take for a request of its own.
SMUGGLED = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"

_JSON = "content-type: application/json"
_LENGTH = f"content-length: {len(BODY)}"
_CHUNKED = "transfer-encoding: chunked"


def post(*lines: str, body: bytes = BODY, target: str = CHAT, method: str = "POST", version: str = "HTTP/1.1") -> bytes:
    """A request in which nothing is put right."""
    head = [f"{method} {target} {version}", "host: localhost", _JSON, *lines, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def _chunks(size: bytes, after: bytes = b"\r\n", last: bytes = b"0\r\n\r\n") -> bytes:
    return post(_CHUNKED, body=size + b"\r\n" + BODY + after + last)


_SIZE = b"%x" % len(BODY)
_WHOLE = _SIZE + b"\r\n" + BODY + b"\r\n0\r\n\r\n"

#: Refused with 400, and the connection closed.
REFUSED: Mapping[str, bytes] = {
    "length and chunks": post(_LENGTH, _CHUNKED, body=b"0\r\n\r\n" + SMUGGLED),
    "chunks and length": post(_CHUNKED, "content-length: 4", body=_WHOLE),
    "two transfer encodings": post(_CHUNKED, "transfer-encoding: identity", body=b"0\r\n\r\n" + SMUGGLED),
    "an unknown transfer encoding": post("transfer-encoding: xchunked", body=b"0\r\n\r\n" + SMUGGLED),
    "chunked is not the last": post("transfer-encoding: chunked, identity", body=b"0\r\n\r\n" + SMUGGLED),
    "a quoted transfer encoding": post('transfer-encoding: "chunked"', body=b"0\r\n\r\n" + SMUGGLED),
    "a space before the colon": post("transfer-encoding : chunked", _LENGTH),
    "a vertical tab": post("transfer-encoding: \x0bchunked", body=b"0\r\n\r\n" + SMUGGLED),
    "a folded transfer encoding": post("transfer-encoding:\r\n chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "a transfer encoding in a fold": post(_LENGTH, "x: y\r\n transfer-encoding: chunked"),
    "a header behind a bare line feed": post(_LENGTH, "x: y\ntransfer-encoding: chunked"),
    "a header behind a bare carriage return": post(_LENGTH, "x: y\rtransfer-encoding: chunked"),
    "one length twice": post(_LENGTH, _LENGTH),
    "two lengths": post(_LENGTH, "content-length: 0"),
    "a list of lengths": post(f"{_LENGTH}, {len(BODY)}"),
    "a length with a sign": post(f"content-length: +{len(BODY)}"),
    "a negative length": post("content-length: -1"),
    "a length in hex": post(f"content-length: 0x{len(BODY):x}"),
    "a length beyond all numbers": post("content-length: 99999999999999999999999"),
    "no length in the header": post("content-length: "),
    "a length in two words": post("content-length: 1 2"),
    "a length that is a fraction": post(f"{_LENGTH}.0"),
    "a length with a NUL": post(f"{_LENGTH}\0"),
    "a length in other digits": post("content-length: \u00b2"),
    "a length with a space before its colon": post(f"content-length : {len(BODY)}"),
    "a header that begins with a space": post(f" {_LENGTH}"),
    "line feeds alone": post(_LENGTH).replace(b"\r\n", b"\n"),
    "a line feed ends the head": post(_LENGTH, body=b"").replace(b"\r\n\r\n", b"\r\n\n") + BODY,
    "a NUL in a name": post("x\0y: z", _LENGTH),
    "a NUL in a value": post("x: y\0z", _LENGTH),
    "a header without a colon": post("nonsense", _LENGTH),
    "a header without a name": post(": x", _LENGTH),
    "a space in a name": post("x y: z", _LENGTH),
    "bytes in a name": post("\xff\xfe: z", _LENGTH),
    "a folded header": post("x: y\r\n z", _LENGTH),
    "a space in the target": post(_LENGTH, target=f"{CHAT} x"),
    "a NUL in the target": post(_LENGTH, target=f"{CHAT}\0"),
    "bytes in the target": post(_LENGTH, target=f"{CHAT}\xff"),
    "a target that is no path": post(_LENGTH, target="v1/chat/completions"),
    "a tunnel": post(_LENGTH, target="localhost:80", method="CONNECT"),
    "HTTP/1.2": post(_LENGTH, version="HTTP/1.2"),
    "HTTP/2.0": post(_LENGTH, version="HTTP/2.0"),
    "http in lower case": post(_LENGTH, version="http/1.1"),
    "a version of many digits": post(_LENGTH, version="HTTP/1.11"),
    "a method in lower case": post(_LENGTH, method="post"),
    "a method in two words": post(_LENGTH, method="PO ST"),
    "a method of nobody's": post(_LENGTH, method="SMUGGLE"),
    "HTTP/2 from the start": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS where there is none": bytes.fromhex("16030100a5010000a10303") + bytes(160),
    "a space before all": b" " + post(_LENGTH),
    "a chunk's extension with a line feed": post(_CHUNKED, body=_SIZE + b";a\n" + BODY + b"\r\n0\r\n\r\n"),
    "a negative chunk": _chunks(b"-1"),
    "a chunk in 0x": _chunks(b"0x" + _SIZE),
    "a chunk with a sign": _chunks(b"+" + _SIZE),
    "a chunk beyond all numbers": _chunks(b"f" * 17),
    "a chunk with a space": _chunks(_SIZE + b" "),
    "a chunk with an underscore": _chunks(_SIZE + b"_"),
    "a chunk without a size": _chunks(b""),
    "a chunk without an end": _chunks(_SIZE, after=b""),
    "a chunk with another end": _chunks(_SIZE, after=b"XX"),
    "chunks with line feeds": post(_CHUNKED, body=_SIZE + b"\n" + BODY + b"\n0\n\n"),
    "chunks with carriage returns": post(_CHUNKED, body=_SIZE + b"\r" + BODY + b"\r0\r\r"),
    "a length as a trailer": _chunks(_SIZE, last=b"0\r\ncontent-length: 5\r\n\r\n"),
    "a folded trailer": _chunks(_SIZE, last=b"0\r\nx:\r\n y\r\n\r\n"),
}

#: Odd, but there is one way to understand it: status, and the next request on the connection is answered.
ANSWERED: Mapping[str, tuple[bytes, int]] = {
    "a tab before the value": (post("transfer-encoding:\tchunked", body=_WHOLE), 200),
    "capitals": (post("Transfer-Encoding: CHUNKED", body=_WHOLE), 200),
    "an underscore is no hyphen": (post("transfer_encoding: chunked", _LENGTH), 200),
    "a length with zeros before": (post(f"content-length: 000{len(BODY)}"), 200),
    "a length with a space behind": (post(f"{_LENGTH} "), 200),
    "empty lines before": (b"\r\n\r\n" + post(_LENGTH), 200),
    "a line feed before": (b"\n" + post(_LENGTH), 200),
    "a chunk's extensions": (post(_CHUNKED, body=_SIZE + b';a=b;c="d"\r\n' + BODY + b"\r\n0;x\r\n\r\n"), 200),
    "a trailer is no header": (_chunks(_SIZE, last=b"0\r\nx-session-id: taken\r\nhost: evil.example\r\n\r\n"), 200),
    "an absolute target": (post(_LENGTH, target=f"http://localhost{CHAT}"), 200),
    "bytes in a value": (post("x: \xff\xfe", _LENGTH), 200),
    "thousands of headers": (post(_LENGTH, *(f"x{number}: y" for number in range(3000))), 200),
    "one header thousands of times": (post(_LENGTH, *["x: y"] * 3000), 200),
    "gzip and chunked": (post("transfer-encoding: gzip, chunked", body=_WHOLE), 400),
    "two hosts": (post("host: evil.example", _LENGTH), 400),
    "two keys": (post("authorization: Bearer a", "authorization: Bearer b", _LENGTH), 400),
    "two sessions": (post("x-session-id: a", "x-session-id: b", _LENGTH), 400),
    "a request in a body": (post(f"content-length: {len(SMUGGLED)}", body=SMUGGLED), 400),
    "a path that climbs": (post(_LENGTH, target="/v1/../admin/v1/routes"), 404),
    "a path with a NUL": (post(_LENGTH, target=f"{CHAT}%00"), 404),
    "a path with a line break": (post(_LENGTH, target=f"{CHAT}%0d%0ax:y"), 404),
    "a path with half an escape": (post(_LENGTH, target=f"{CHAT}%zz"), 404),
    "two slashes": (post(_LENGTH, target=f"/{CHAT}"), 404),
    "a star": (post("content-length: 0", target="*", method="OPTIONS", body=b""), 404),
}


def _with(member: bytes) -> bytes:
    return BODY[:-1] + b"," + member + b"}"


_DEPTH = 100_000

#: Bodies that are to hurt whoever reads them; each is answered at once, with anything but a fault of the gateway's.
BODIES: Mapping[str, bytes] = {
    "deep arrays": b"[" * _DEPTH,
    "deep arrays that end": _with(b'"x":' + b"[" * _DEPTH + b"]" * _DEPTH),
    "deep objects": _with(b'"x":' + b'{"a":' * _DEPTH + b"1" + b"}" * _DEPTH),
    "deep messages": BODY.replace(b'"Who are you?"', b"[" * _DEPTH + b"]" * _DEPTH),
    "a huge number": _with(b'"temperature":' + b"9" * 100_000),
    "a huge exponent": _with(b'"temperature":1e999999999'),
    "a huge fraction": _with(b'"temperature":0.' + b"0" * 100_000 + b"1"),
    "a huge integer": _with(b'"max_tokens":' + b"9" * 30),
    "a negative number": _with(b'"max_tokens":-1'),
    "not a number": _with(b'"temperature":NaN'),
    "infinity": _with(b'"temperature":Infinity'),
    "no UTF-8": BODY.replace(b"Who", b"\xff\xfe\x80"),
    "overlong UTF-8": BODY.replace(b"Who", b"\xc0\xaf"),
    "a surrogate in UTF-8": BODY.replace(b"Who", b"\xed\xa0\x80"),
    "half a character": BODY.replace(b"Who", b"\xe2\x82"),
    "a lone surrogate": BODY.replace(b"Who", b"\\ud800"),
    "surrogates the wrong way round": BODY.replace(b"Who", b"\\udc00\\ud800"),
    "a lone surrogate for a model": BODY.replace(b'"chat"', b'"\\ud800"'),
    "NULs": BODY.replace(b"Who", b"\\u0000" * 1000),
    "a control character": BODY.replace(b"Who", b"\x00\x1b"),
    "a member twice": _with(b'"model":"no-such-model"'),
    "a member a thousand times": _with(b",".join([b'"messages":[]'] * 1000)),
    "many members": _with(b",".join(b'"x%d":0' % number for number in range(20_000))),
    "many messages": BODY.replace(b'"messages":[', b'"messages":[' + b'{"role":"user","content":"a"},' * 20_000),
    "a long model": BODY.replace(b'"chat"', b'"' + b"m" * 500_000 + b'"'),
    "a model in no letters": BODY.replace(b'"chat"', b'"\\r\\nx: y"'),
    "a byte order mark": b"\xef\xbb\xbf" + BODY,
    "another encoding": BODY.decode().encode("utf-16"),
    "white space": b" " * 900_000 + BODY,
    "a comment": b"/* */" + BODY,
    "two values": BODY + BODY,
    "a string": b'"' + b"a" * 100_000 + b'"',
    "an open string": b'{"model":"' + b"\\" * 100_001,
    "words of the language": b'{"__proto__":{},"constructor":{},"model":"chat","messages":{"__class__":0}}',
}
