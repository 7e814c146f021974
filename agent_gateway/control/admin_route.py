"""What a route of the admin API is: everything that is known of it, so that it is said once.

Promise: a query or a body that is not as its type says is refused with a text that names the field.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, inspect

from agent_gateway.control.audit import OPEN, By
from agent_gateway.control.audit_chain import Actor
from agent_gateway.core.admin import AdminAsk
from agent_gateway.core.errors import BadRequest

LIMIT = 20
LIMIT_MAX = 100

_T = TypeVar("_T")
_Query = TypeVar("_Query", bound=Struct)
_Body = TypeVar("_Body")


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class PageQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX)] = LIMIT
    #: `next` of the page before.
    cursor: str | None = None


class Listed(Struct, Generic[_T], frozen=True):
    data: Sequence[_T]
    #: Give it as `cursor` to go on; null: there are no more.
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Asked(Generic[_Query, _Body]):
    """A request that its route has understood."""

    ask: AdminAsk
    #: What stands in the path's place, or "".
    of: str
    query: _Query
    body: _Body

    @property
    def by(self) -> By:
        key = self.ask.key
        return By(OPEN if key is None else Actor(key.id, key.name, key.role), self.ask.source, self.ask.request_id)


Handler = Callable[[Asked[Any, Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """`path` is below `/admin/v1/` and has at most one place: `keys/{id}/rotate`. `role`: the least that may ask. `handler` gives what
    `answer` says, or what the edge is to do with it: an `AdminAnswer`, and where `media` is not JSON a `Streamed`.
    """

    method: Literal["GET", "POST", "PATCH", "PUT", "DELETE"]
    path: str
    summary: str
    #: A type that msgspec knows.
    answer: Any
    handler: Handler
    role: Literal["anyone", "auditor", "admin"] = "auditor"
    query: type[Struct] = NoQuery
    body: Any = None
    status: int = 200
    media: str = "application/json"
    #: What the answer may be instead, as text.
    or_media: str | None = None
    #: An empty body stands for one without fields.
    may_be_empty: bool = False
    #: The place may hold any; nothing follows it.
    slashes: bool = False

    def place_in(self, path: str) -> str | None:
        """What stands in this route's place, "" where it has none; None: the path is another one."""
        before, brace, rest = self.path.partition("{")
        after = rest.partition("}")[2]
        if not brace:
            return "" if path == before else None
        if not path.startswith(before) or not path.endswith(after) or len(path) <= len(before) + len(after):
            return None
        of = path[len(before) : len(path) - len(after)]
        return of if self.slashes or "/" not in of else None

    async def answered(self, ask: AdminAsk, of: str) -> Any:
        return await self.handler(Asked(ask, of, self._query_of(ask.query), self._body_of(ask.body)))

    def _query_of(self, given: Mapping[str, str]) -> Struct:
        try:
            return msgspec.convert(given, self.query, strict=False)
        except msgspec.ValidationError as error:
            known = ", ".join(self.query.__struct_fields__)
            raise _refusal(error, self.query, f"it takes {known}" if known else "it takes none") from None

    def _body_of(self, given: bytes) -> Any:
        if self.body is None:
            return None
        if not given and self.may_be_empty:
            given = b"{}"
        try:
            return msgspec.json.decode(given, type=self.body)
        except msgspec.ValidationError as error:
            raise _refusal(error, self.body, f"here there are {', '.join(self.body.__struct_fields__)}") from None
        except msgspec.DecodeError as error:
            raise BadRequest(f"The body is not JSON that can be read: {error}.") from None
        except UnicodeDecodeError:
            raise BadRequest("The body is not valid UTF-8.") from None
        except RecursionError:
            raise BadRequest("The body is nested too deeply.") from None


def _refusal(error: msgspec.ValidationError, asked: Any, known: str) -> BadRequest:
    """msgspec says `Expected `int` <= 100 - at `$.limit``: the place comes first here. `asked`: the type that it is not."""
    what, _, at = str(error).partition(" - at `$")
    at = at.strip("`").lstrip(".")
    if match := re.search(r"unknown field `(.*)`", what, re.DOTALL):
        name = match[1][:100]
        if at:
            return BadRequest(f"{at}.{name}: is not known.", param=f"{at}.{name}")
        return BadRequest(f"{name}: is not known; {known}.", param=name)
    if match := re.search(r"missing required field `(.*)`", what):
        at = f"{at}.{match[1]}" if at else match[1]
        return BadRequest(f"{at}: is missing.", param=at)
    if what.startswith("Invalid enum value"):
        what = f"{what}; there are {', '.join(_values_at(asked, at))}"
    elif "matching regex" in what:
        what = f"Expected {_pattern_at(asked, at)}"
    what = what.replace("`", "")
    return BadRequest(f"{at}: {what[0].lower()}{what[1:]}." if at else f"{what}.", param=at or None)


def _values_at(asked: Any, path: str) -> list[str]:
    """Those of a closed list, which msgspec does not name."""
    return [str(value) for each in _types_at(asked, path) if isinstance(each, inspect.LiteralType) for value in each.values]


def _pattern_at(asked: Any, path: str) -> str:
    """What the pattern means: a field that has one says so in its `Meta(extra={"told": …})`."""
    return next(str(each.extra["told"]) for each in _types_at(asked, path) if isinstance(each, inspect.Metadata) and each.extra)


def _types_at(asked: Any, path: str) -> Sequence[inspect.Type]:
    """`path`: as msgspec told it (`budget.per`, `endpoints[0]`)."""
    types = _alternatives(inspect.type_info(asked))
    for step in re.findall(r"[^.\[\]]+|\[\w*\]", path):
        if step.startswith("["):
            types = [each for listed in types if isinstance(listed, inspect.ListType) for each in _alternatives(listed.item_type)]
            continue
        fields = [field for each in types if isinstance(each, inspect.StructType) for field in each.fields]
        types = [each for field in fields if field.encode_name == step for each in _alternatives(field.type)]
    return types


def _alternatives(of: inspect.Type) -> Sequence[inspect.Type]:
    return of.types if isinstance(of, inspect.UnionType) else [of]
