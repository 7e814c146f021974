"""What models cost and whose they are: the price package by way of a cached file. An unknown price is None, never 0."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from importlib.metadata import version
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import msgspec

from agent_gateway.core.pricing import Price

#: In the cache file's name: a change of its shape must not read an older one.
FORMAT = 1
#: The export takes about a second; one that hangs must not hang a start (s).
EXPORT_TIMEOUT_S = 60

_COMPACT_DATE = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


class Rates(msgspec.Struct, frozen=True, gc=False):
    """One price of a model and when it holds (dates and times of day in UTC); the last that holds counts."""

    input: float | None = None
    output: float | None = None
    cache_read: float | None = None
    cache_write: float | None = None
    request: float = 0.0
    from_date: date | None = None
    from_time: time | None = None
    to_time: time | None = None

    def hold(self, at: datetime) -> bool:
        if self.from_date is not None:
            return at.date() >= self.from_date
        if self.from_time is None or self.to_time is None:
            return True
        now, start, end = at.timetz(), _utc(self.from_time), _utc(self.to_time)
        return start <= now < end if start <= end else now >= start or now < end


class Known(msgspec.Struct, frozen=True):
    """A model of the price table."""

    id: str
    match: list[Any]
    prices: tuple[Rates, ...]
    #: Tokens of input.
    context: int | None = None

    def price(self, at: datetime) -> Price | None:
        """None when tokens are not what it charges for."""
        rates = next((item for item in reversed(self.prices) if item.hold(at)), self.prices[0])
        if rates.input is None and rates.output is None:
            return None
        return Price(rates.input or 0.0, rates.output or 0.0, rates.cache_read, rates.cache_write, rates.request)


class Seller(msgspec.Struct, frozen=True):
    """A provider of the price table. `address` matches its URL; `sells_for` names makers whose models it sells at their price."""

    id: str
    address: str
    maker_of: list[Any] | None
    sells_for: tuple[str, ...]
    models: tuple[Known, ...]


class Catalogue(msgspec.Struct, frozen=True):
    """The price table. Look-ups scan it (up to a millisecond): for starts and for names seen first, not for every request."""

    providers: tuple[Seller, ...] = ()

    def seller_at(self, base_url: str) -> str | None:
        """Whose address that is; None for one's own server."""
        return next((seller.id for seller in self.providers if re.match(seller.address, base_url)), None)

    def maker(self, model: str) -> str | None:
        """Who makes a model of that name, whether its price is known or not."""
        name = model.lower()
        return next((seller.id for seller in self.providers if seller.maker_of and matches(seller.maker_of, name)), None)

    def find(self, model: str, seller_id: str | None = None) -> Known | None:
        """The model at that seller; without a seller, at its maker."""
        seller_id = seller_id or self.maker(model)
        seller = next((seller for seller in self.providers if seller.id == seller_id), None)
        if seller is None:
            return None
        name = model.lower()
        return self._of(seller, name) or (self._of(seller, dashed) if (dashed := _with_dashed_date(name)) != name else None)

    def _of(self, seller: Seller, name: str) -> Known | None:
        sellers = [seller, *(other for id in seller.sells_for for other in self.providers if other.id == id)]
        return next((known for each in sellers for known in each.models if matches(known.match, name)), None)


def matches(clause: list[Any], name: str) -> bool:
    """`name` in lower case. Clauses: `price_export.clause`."""
    operator, operand = clause
    match operator:
        case "equals":
            return bool(name == operand)
        case "starts_with":
            return name.startswith(operand)
        case "ends_with":
            return name.endswith(operand)
        case "contains":
            return operand in name
        case "regex":
            return re.search(operand, name) is not None
        case "or":
            return any(matches(part, name) for part in operand)
        case "and":
            return all(matches(part, name) for part in operand)
        case _:
            raise ValueError(f"{operator!r} is not an operator of a price clause")


class PricesUnavailable(Exception):
    """The price table could be neither read nor made; the text says why."""


def load_catalogue(environ: Mapping[str, str] = os.environ) -> Catalogue:
    """From the cache file, made first where it is missing, unreadable or of another version of the package."""
    file = _cache_directory(environ) / f"prices-{version('genai-prices')}-{FORMAT}.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=Catalogue)
    except (OSError, msgspec.MsgspecError):
        pass
    data = _export(file.parent)
    try:
        catalogue = msgspec.json.decode(data, type=Catalogue)
    except msgspec.MsgspecError as error:
        raise PricesUnavailable(f"the price table has a shape that is not known: {error}") from None
    _replace(file, data)
    return catalogue


def _export(directory: Path) -> bytes:
    root = str(Path(__file__).parents[2])
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    with tempfile.TemporaryDirectory(dir=directory) as place:
        target = Path(place, "prices.json")
        # -P: what lies in the working directory is not imported in the package's stead.
        command = [sys.executable, "-P", "-m", "agent_gateway.control.price_export", str(target)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=EXPORT_TIMEOUT_S, env=environ)  # noqa: S603 - our own module
            return target.read_bytes()
        except subprocess.CalledProcessError as error:
            last = error.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise PricesUnavailable(f"the price table could not be made: {last}") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PricesUnavailable(f"the price table could not be made: {error}") from None


def _replace(file: Path, data: bytes) -> None:
    """All or nothing, since another process may read it; that it cannot be kept costs the next start a second, nothing else."""
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as written:
            written.write(data)
        os.replace(written.name, file)
    except OSError:
        return


def _cache_directory(environ: Mapping[str, str]) -> Path:
    """The user's cache directory, else one in the temporary directory that nobody else can have prepared, else a fresh one."""
    base = environ.get("XDG_CACHE_HOME") or (f"{environ['HOME']}/.cache" if environ.get("HOME") else None)
    candidates = [Path(base, "agent-gateway")] if base and os.path.isabs(base) else []
    candidates.append(Path(tempfile.gettempdir(), f"agent-gateway-{os.getuid()}"))
    for directory in candidates:
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            status = directory.lstat()
        except OSError:
            continue
        ours = S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
        if ours and os.access(directory, os.W_OK):
            return directory
    return Path(tempfile.mkdtemp(prefix="agent-gateway-"))


def _with_dashed_date(name: str) -> str:
    """`…-20251211` is also written `…-2025-12-11`."""

    def dash(match: re.Match[str]) -> str:
        year, month, day = (int(part) for part in match.groups())
        try:
            return f"-{date(year, month, day).isoformat()}"
        except ValueError:
            return match.group()

    return _COMPACT_DATE.sub(dash, name)


def _utc(value: time) -> time:
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return datetime.combine(date(1970, 1, 1), value).astimezone(UTC).timetz()
