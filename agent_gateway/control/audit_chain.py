"""How the audit log is chained and signed, and how that is checked; knows nothing of where it is kept.

Promise: whoever changes, removes or reorders entries without the key is found, and so is a removed end.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest, digest
from typing import Any, Literal

import msgspec
from msgspec import Struct

from agent_gateway.stores.base import NO_ROW, AuditRow, AuditStore

#: The action of the entry that says: the head was not as it had been left.
MISMATCH = "audit.mismatch"
#: Entries checked between two looks at the store.
PAGE_ROWS = 500

#: What comes before the first entry.
_GENESIS = bytes(32)
_ENTRY = b"agent-gateway audit entry 1\0"
_HEAD = b"agent-gateway audit head 1\0"
_KEY = b"agent-gateway audit key 1\0"
_FINGERPRINT_BYTES = 8


#: Of an entry: written before its action took effect; what then did not work; refused accesses; what was found to be so.
Outcome = Literal["allowed", "failed", "refused", "noted"]


class Actor(Struct, frozen=True):
    """Who acts. Role `local`: somebody on the machine itself; `open`: anybody, for there is no admin key."""

    id: str
    name: str
    role: Literal["user", "auditor", "admin", "local", "open"]


class Entry(Struct, frozen=True, kw_only=True):
    """What the log says. `at`: RFC 3339 with milliseconds. `before`, `after`: how the target looked and will look; never a secret.

    What is allowed is written before it takes effect; what then failed is said by a second entry.
    """

    number: int
    at: str
    actor: Actor
    source: str
    request_id: str
    action: str
    target: str
    before: Any = None
    after: Any = None
    outcome: Outcome = "allowed"


class Head(Struct, frozen=True):
    """The log's end, to be kept where nobody who could rewrite the log can. In hexadecimal."""

    number: int
    hash: str
    signature: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The first entry that is not as it was written."""

    number: int
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    #: Those that were looked at.
    entries: int
    broken: Broken | None


_json = msgspec.json.Encoder()


def chained(previous: AuditRow | None, entry: Entry) -> AuditRow:
    """The row that follows; its number is the entry's."""
    body = _json.encode(entry)
    return AuditRow(entry.number, body, _hash(previous, body))


def number_after(previous: AuditRow | None) -> int:
    return 1 if previous is None else previous.number + 1


def sign(key: bytes, row: AuditRow) -> bytes:
    """Of the log's end. Which key it was is told in front, so that another key is not taken for a forgery."""
    return _fingerprint(key) + digest(key, b"%b%d\0%b" % (_HEAD, row.number, row.hash), "sha256")


def why_unsigned(key: bytes, row: AuditRow, signature: bytes) -> str | None:
    """None: it is signed."""
    if row == NO_ROW:
        return "all entries were gone, the signature of their end was not"
    if not signature:
        return "the signature of the log's end is missing"
    if compare_digest(sign(key, row), signature):
        return None
    if not signature.startswith(_fingerprint(key)):
        return "the log's end is signed with another key than this one"
    return "the log's end is not the one that was signed: entries after it were removed, or it was rewritten"


async def verify(store: AuditStore, key: bytes, anchor: Head | None = None, *, has_signed: bool = False) -> Verdict:
    """Reads all of it. `anchor`: a head that was kept outside; what it covers need not be doubted for what happened to the key before.
    `has_signed`: the key was made to sign an entry, so that there must be one.

    Raises `StoreDown`.
    """
    found = await store.audit_head()
    last = 0 if found is None else found[0].number
    previous: AuditRow | None = None
    while previous is None or previous.number < last:
        rows = await store.read_audit(after=0 if previous is None else previous.number, limit=PAGE_ROWS)
        for row in rows:
            if (why := _why_broken(previous, row, anchor)) is not None:
                return Verdict(row.number, Broken(number_after(previous), why))
            previous = row
            if row.number >= last:
                break
        if not rows:
            break
    end = number_after(previous)
    if anchor is not None and anchor.number >= end:
        return Verdict(end - 1, Broken(end, f"it is missing: the anchored head is entry {anchor.number}"))
    if found is None:
        why = "it is missing: the log is empty, though something was signed here" if has_signed else None
    else:
        why = why_unsigned(key, *found)
    return Verdict(end - 1, None if why is None else Broken(max(end - 1, 1), why))


def _why_broken(previous: AuditRow | None, row: AuditRow, anchor: Head | None) -> str | None:
    number = number_after(previous)
    if row.number != number:
        return f"it is missing: after {number - 1} comes {row.number}"
    if row.hash != _hash(previous, row.body):
        return "it was changed, or what comes before it was"
    try:
        entry = msgspec.json.decode(row.body, type=Entry)
    except msgspec.MsgspecError as error:
        return f"it cannot be read: {error}"
    if entry.number != number:
        return f"it says that it is entry {entry.number}"
    if anchor is not None and number == anchor.number and row.hash.hex() != anchor.hash:
        return "it is not the entry that the anchored head names"
    if entry.action == MISMATCH and (anchor is None or anchor.number < number):
        return f"when it was written, {entry.target}"
    return None


def _hash(previous: AuditRow | None, body: bytes) -> bytes:
    return sha256(_ENTRY + (_GENESIS if previous is None else previous.hash) + body).digest()


def _fingerprint(key: bytes) -> bytes:
    return sha256(_KEY + key).digest()[:_FINGERPRINT_BYTES]
