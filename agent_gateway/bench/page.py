"""The report as one HTML file with its plots in it: no script, nothing from elsewhere, light or dark as the reader has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from math import log10

import msgspec

from agent_gateway.bench.plot import Line, plot
from agent_gateway.bench.report import LOOKED_AT, TIMES, Report, compared
from agent_gateway.bench.tally import Point
from agent_gateway.bench.times import Told
from agent_gateway.record.slo import Verdict, told

#: Marks on the axis of percentiles, as far as there are so many times that the next one says something.
_MARKS = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)
_STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--dim:#5b6675;--line:#d7dce3;--back:#fff;
--good:#17733c;--bad:#b3261e;--a:#1f5fbf;--b:#b45309;--c:#7c3aed}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ee;--dim:#9aa5b4;--line:#333c49;--back:#12171f;
--good:#5fd08a;--bad:#ff8a80;--a:#7db1ff;--b:#f5a65b;--c:#c4a3ff}}
body{margin:2rem auto;max-width:60rem;padding:0 1rem;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}p,figcaption{color:var(--dim)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:left}td.n,th.n{text-align:right}
.met{color:var(--good)}.missed{color:var(--bad);font-weight:600}
figure{margin:1.5rem 0}svg{width:100%;height:auto}svg text{fill:var(--dim);font-size:11px}
text.y{text-anchor:end}text.x{text-anchor:middle}.grid{stroke:var(--line)}polyline{fill:none;stroke-width:2}
polyline.a{stroke:var(--a)}polyline.b{stroke:var(--b)}polyline.c{stroke:var(--c)}polyline.o{stroke:var(--dim);stroke-dasharray:5 4}
.legend{display:flex;gap:1.5rem;list-style:none;margin:0;padding:0;color:var(--dim)}.legend li::before{content:"— ";font-weight:700}
.legend .a::before{color:var(--a)}.legend .b::before{color:var(--b)}.legend .c::before{color:var(--c)}
"""


def page(report: Report, other: Report | None = None) -> str:
    figures = report.figures
    plots = [
        _by_percentile(title, mine, None if other is None else getattr(other.figures, name))
        for name, title in TIMES.items()
        if name not in ("service", "late") and (mine := getattr(figures, name)) is not None
    ]
    title = f"Load test of {report.load.url}"
    parts = [
        f"<h1>{escape(title)}</h1><p>{escape(_asked(report))}</p>",
        "<h2>Targets</h2>" + _table(("what", "target", "figure", ""), map(_target, report.targets)),
        "<h2>Figures</h2>" + _table(("", ""), _figures(report)),
        "<h2>Times</h2>" + _table(("", *LOOKED_AT, "most", "count"), _times(report)),
        *plots,
        *_over_time(figures.timeline),
    ]
    if figures.errors:
        rows = ((escape(why), _number(count)) for why, count in figures.errors.items())
        parts.append("<h2>Errors</h2>" + _table(("why", "requests"), rows))
    if other is not None:
        parts.append(f"<h2>Compared with {escape(other.at)}</h2>" + _table(("what", "now", "then", "change"), _comparison(report, other)))
    asked = msgspec.json.format(msgspec.json.encode(report.load)).decode()
    parts.append(f"<h2>What was asked</h2><pre>{escape(asked)}</pre>")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _asked(report: Report) -> str:
    load = report.load
    loop = f"{load.concurrency} users, each asking again when it is answered"
    if load.rate is not None:
        loop = f"{load.rate:g} requests a second, sent whether those before them are back or not"
    preset = "" if report.preset is None else f"Preset {report.preset}. "
    return f"{preset}{load.mode}, model {load.model}: {loop}; {report.figures.measured_s:.0f} s measured. {report.at}, {report.version}."


# --- tables -----------------------------------------------------------------------------------------------------------


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML; all but the first column are figures."""
    head = "".join(f"<th{_numeric(place)}>{escape(text)}</th>" for place, text in enumerate(heads))
    body = "".join(f"<tr>{''.join(f'<td{_numeric(place)}>{cell}</td>' for place, cell in enumerate(row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _numeric(place: int) -> str:
    return ' class="n"' if place else ""


def _target(verdict: Verdict) -> tuple[str, ...]:
    sign = "&lt;" if verdict.better == "below" else "≥"
    figure = "" if verdict.figure is None else told(verdict.figure, verdict.unit)
    judgement = {
        True: '<span class="met">met</span>',
        False: '<span class="missed">missed</span>',
        None: "nothing to judge by",
    }[verdict.met]
    return (f"{escape(verdict.of)}: {escape(verdict.text)}", f"{sign} {told(verdict.target, verdict.unit)}", figure, judgement)


def _figures(report: Report) -> Iterable[tuple[str, str]]:
    figures = report.figures
    yield "requests", _number(figures.requests)
    yield "answered", _number(figures.answered)
    yield "failed", _number(figures.failed)
    yield "answered a second", f"{figures.per_s:.1f}"
    for status, count in figures.statuses.items():
        yield f"… {escape(status)}", _number(count)
    yield "tokens in, out", f"{_number(figures.input_tokens)}, {_number(figures.output_tokens)}"
    if figures.cost_usd is not None:
        yield "cost", told(figures.cost_usd, "usd")


def _times(report: Report) -> Iterable[tuple[str, ...]]:
    for title, times in report.times():
        percentiles = [told(times[percentile], "s") for percentile in LOOKED_AT]
        yield (title, *percentiles, told(times.max_s, "s"), _number(times.count))


def _comparison(report: Report, other: Report) -> Iterable[tuple[str, ...]]:
    for row in compared(report, other):
        change = "" if row.change is None else f"{row.change:+.1%}"
        kind = {True: "met", False: "missed", None: ""}[row.better]
        figures = told(row.figure, row.unit), told(row.other, row.unit)
        yield (escape(row.what), *figures, f'<span class="{kind}">{change}</span>')


def _number(count: int) -> str:
    return f"{count:,}"


# --- plots ------------------------------------------------------------------------------------------------------------


def _by_percentile(title: str, times: Told, other: Told | None) -> str:
    """As HdrHistogram draws it: each mark on the axis leaves a tenth of what the one before leaves."""
    marks = [mark for mark in _MARKS if times.count * (1 - mark) >= 1]
    last = marks[-1]
    lines = [Line("this load test", _ranks(times, last), "a")]
    if other is not None:
        lines.append(Line("the other", _ranks(other, last), "o"))
    return plot(f"{title}, by percentile", lines, [(_place(mark), f"{mark * 100:g} %") for mark in marks], _seconds)


def _ranks(times: Told, last: float) -> list[tuple[float, float | None]]:
    points: list[tuple[float, float | None]] = []
    within = 0
    for upper_s, count in times.buckets:
        share = min(within / times.count, last)
        within += count
        points.append((_place(share), min(upper_s, times.max_s)))
        if share == last:
            break
    return points


def _place(share: float) -> float:
    return -log10(1 - share)


def _over_time(timeline: Sequence[Point]) -> Iterable[str]:
    if len(timeline) < 2:
        return
    ticks = [(timeline[place].at_s, f"{timeline[place].at_s:g} s") for place in sorted({0, len(timeline) // 2, len(timeline) - 1})]

    def line(name: str, of: Callable[[Point], float | None], kind: str) -> Line:
        return Line(name, [(point.at_s, of(point)) for point in timeline], kind)

    rates = [line("answered", lambda point: point.requests_per_s, "a"), line("failed", lambda point: point.errors_per_s, "b")]
    yield plot("Requests a second", rates, ticks, lambda value: f"{value:g}")
    times = [
        line("p50", lambda point: point.p50_s, "a"),
        line("p95", lambda point: point.p95_s, "b"),
        line("p99", lambda point: point.p99_s, "c"),
    ]
    yield plot("Time of an answer", times, ticks, _seconds)
    yield plot("Under way", [line("requests", lambda point: point.in_flight, "a")], ticks, lambda value: f"{value:g}")


def _seconds(value: float) -> str:
    return f"{value:.4g} s" if value >= 1 or not value else f"{value * 1000:.4g} ms"
