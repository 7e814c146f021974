"""The sink that sends traces, metrics and logs by OTLP over HTTP, in protobuf, to a collector.

Promise: what the collector says it takes is counted as written, what it refuses as dropped; what it is too busy for is sent again.
"""

from __future__ import annotations

import gzip
import secrets
from email.message import Message
from http.client import HTTPException, HTTPResponse
from typing import Annotated, Any, Literal
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from msgspec import Meta, field

from agent_gateway import __version__
from agent_gateway.core.settings import Seconds
from agent_gateway.record.base import SinkSettings, Tools, check_address
from agent_gateway.record.otlp.exports import Envelope, logs, spans
from agent_gateway.record.otlp.figures import Figures
from agent_gateway.record.otlp.protobuf import Malformed, fields
from agent_gateway.record.otlp.story import Story, tell
from agent_gateway.record.row import Record
from agent_gateway.record.shipping import Refused, Shipping, Untaken, gently

Signal = Literal["traces", "metrics", "logs"]

#: Of a collector's answer.
ANSWER_MAX_BYTES = 64 * 1024
#: Statuses at which OTLP says to try again.
_AGAIN = frozenset({429, 502, 503, 504})


class OtlpSettings(SinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: str = "otlp"
    #: Without `/v1/traces` and its likes.
    endpoint: str
    #: The collector's key, for example.
    headers: dict[str, str] = field(default_factory=dict)
    signals: Annotated[tuple[Signal, ...], Meta(min_length=1)] = ("traces", "metrics", "logs")
    #: Logs tell what was asked and answered, as far as records hold it.
    content: bool = False
    service_name: Annotated[str, Meta(min_length=1)] = "agent-gateway"
    #: More attributes of the resource.
    resource: dict[str, str] = field(default_factory=dict)
    compression: Literal["gzip", "none"] = "gzip"
    timeout_s: Seconds = 10
    metrics_every_s: Annotated[float, Meta(ge=1)] = 30

    def __post_init__(self) -> None:
        check_address("endpoint", self.endpoint)
        for name, value in self.headers.items():
            if not (name.isascii() and name.replace("-", "").replace("_", "").isalnum() and value.isascii() and value.isprintable()):
                raise ValueError(f"headers: {name} cannot be sent as a header")


class OtlpSink(Shipping):
    Settings = OtlpSettings
    linger_s = 1.0

    def __init__(self, settings: OtlpSettings, tools: Tools) -> None:
        self._metrics = "metrics" in settings.signals
        if self._metrics:
            self.tick_every_s = settings.metrics_every_s
        super().__init__(settings.title, tools.clock)
        self._settings = settings
        self._providers = tools.providers
        resource = {"service.name": settings.service_name, "service.version": __version__, "service.instance.id": secrets.token_hex(8)}
        self._envelope = Envelope(resource | settings.resource, __version__)
        self._figures = Figures(int(tools.clock.wall() * 1e9))
        self._opener = build_opener(_NoRedirect)
        # Of the batch that is under way.
        self._batch: list[Record] | None = None
        self._stories: list[Story] = []
        self._to_send: list[Signal] = []
        self._refused_rows = 0

    def ship(self, records: list[Record]) -> int:
        """A signal that was taken is not sent again when a later one has to wait."""
        if self._batch is not records:
            self._batch, self._refused_rows = records, 0
            self._stories = [tell(record, self._providers) for record in gently(records)]
            self._to_send = [signal for signal in self._settings.signals if signal != "metrics"]
            if self._metrics:
                for story in self._stories:
                    self._figures.observe(story)
        while self._to_send:
            self._refused_rows = max(self._refused_rows, self._send(self._to_send[0]))
            del self._to_send[0]
        self._batch, self._stories = None, []
        return len(records) - self._refused_rows

    def tick(self) -> None:
        points = self._figures.told(int(self._clock.wall() * 1e9))
        if points:
            self._post("metrics", self._envelope.around(points))

    def _send(self, signal: Signal) -> int:
        """How many records of the batch were refused."""
        if signal == "logs":
            return self._post(
                signal, self._envelope.around(b"".join([logs([one], self._settings.content) for one in gently(self._stories)]))
            )
        followed = [story for story in self._stories if story.sampled]
        if not followed:
            return 0
        refused = self._post(signal, self._envelope.around(b"".join([spans([story]) for story in gently(followed)])))
        return min(refused, len(followed))  # spans are more than records

    def _post(self, signal: Signal, body: bytes) -> int:
        """How many items were refused. Raises `Untaken`, `Refused` and `OSError`."""
        headers = {"content-type": "application/x-protobuf", "user-agent": f"agent-gateway/{__version__}", **self._settings.headers}
        if self._settings.compression == "gzip":
            body, headers["content-encoding"] = gzip.compress(body, 1), "gzip"
        url = f"{self._settings.endpoint.rstrip('/')}/v1/{signal}"
        request = Request(url, body, headers, method="POST")  # noqa: S310 – http or https: the settings see to it
        try:
            with self._opener.open(request, timeout=self._settings.timeout_s) as reply:
                return _refused(_read(reply))
        except HTTPError as error:
            with error:
                if error.code in _AGAIN:
                    raise Untaken(f"{signal}: status {error.code}", _retry_after_s(error.headers)) from None
                raise Refused(f"{signal}: status {error.code}") from None
        except HTTPException as error:
            raise Untaken(f"{signal}: {error!r}") from None


class _NoRedirect(HTTPRedirectHandler):
    """A key must not follow to another place."""

    def redirect_request(self, *args: Any) -> None:
        return None


def _read(reply: HTTPResponse) -> bytes:
    return reply.read(ANSWER_MAX_BYTES)


def _refused(answer: bytes) -> int:
    """Of an Export…ServiceResponse: what its partial success says was rejected. 0 where the answer is none."""
    try:
        partial = dict(fields(answer)).get(1, b"")
        rejected = dict(fields(partial)).get(1, 0) if isinstance(partial, bytes) else 0
    except Malformed:
        return 0
    return rejected if isinstance(rejected, int) else 0


def _retry_after_s(headers: Message) -> float:
    """In seconds; a date counts as not given."""
    told = str(headers.get("retry-after", ""))
    return float(told) if told.isascii() and told.isdigit() else 0.0
