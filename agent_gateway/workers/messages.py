"""What supervisor and workers say to each other: the topics, and what their bodies hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from agent_gateway.control.pulse import Now, Points
from agent_gateway.control.source import Source
from agent_gateway.core.siblings import Told
from agent_gateway.record.alerting.engine import Alert

# --- a worker asks its supervisor

#: `Begin`: what it is to serve.
BEGIN = "begin"
#: It can take requests; answered when it is to.
READY = "ready"
#: Its metrics, packed, for the last time.
LAST = "last"
#: `Question` to others: `list[Told]`.
GATHER = "gather"
#: The metrics of all, packed.
WHOLE = "whole"
#: `Alerts`.
ALERTS = "alerts"
#: `Silence`: the alert, or nothing where there is none.
SILENCE = "alerts.silence"
#: A time in seconds: the sums of all in it.
SUMS = "slo.sums"
#: `Now`.
NOW = "now"
#: `Minutes`: `Points`.
MINUTES = "now.minutes"

# --- the supervisor asks a worker

#: Its metrics, packed.
FIGURES = "figures"
#: `Reload`: what is wrong with it, a list of texts.
RELOAD = "reload"
#: Others take what is new; it ends what it has, and itself.
RETIRE = "retire"


class Begin(Struct, frozen=True):
    source: Source
    options: Mapping[str, Any]
    #: By which workers share what they would by Redis.
    shared_file: str
    #: Its own in the tally of connections, and how many that has.
    entry: int
    entries: int


class Reload(Struct, frozen=True):
    source: Source
    #: The others have not heard of it yet.
    is_first: bool


class Question(Struct, frozen=True):
    topic: str
    body: bytes
    timeout_s: float
    #: None: all others.
    worker: int | None = None
    #: None that is about to go.
    staying: bool = False


class Silence(Struct, frozen=True):
    alert: str
    #: Unix seconds.
    until: float


class Minutes(Struct, frozen=True):
    count: int
    #: None: all together.
    model: str | None


class Alerts(Struct, frozen=True):
    firing: list[Alert]
    past: list[Alert]


pack = msgspec.msgpack.encode
begin = msgspec.msgpack.Decoder(Begin)
reload = msgspec.msgpack.Decoder(Reload)
errors = msgspec.msgpack.Decoder(list[str])
question = msgspec.msgpack.Decoder(Question)
tellings = msgspec.msgpack.Decoder(list[Told])
alerts = msgspec.msgpack.Decoder(Alerts)
alert: msgspec.msgpack.Decoder[Alert | None] = msgspec.msgpack.Decoder(Alert | None)
now = msgspec.msgpack.Decoder(Now)
minutes = msgspec.msgpack.Decoder(Minutes)
points = msgspec.msgpack.Decoder(Points)
silence = msgspec.msgpack.Decoder(Silence)
seconds = msgspec.msgpack.Decoder(float)
