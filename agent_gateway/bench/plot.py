"""Plots as SVG that stands in a page: lines over one axis, with ticks that read well; colours are the page's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 760, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 28, 12, 34
_TICKS = 5

Place = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """`points` in order of x; where y is None, the line is broken. `kind`: the class that the page draws it in."""

    name: str
    points: Sequence[tuple[float, float | None]]
    kind: str


def plot(title: str, lines: Sequence[Line], x_ticks: Sequence[tuple[float, str]], told: Callable[[float], str]) -> str:
    """`x_ticks`: places on the axis and their labels, the first and the last at its ends; `told`: y as it is written."""
    left, right = x_ticks[0][0], x_ticks[-1][0]
    highest = max((y for line in lines for _, y in line.points if y is not None), default=0.0)
    steps = _steps(highest)
    top = steps[-1]

    def place(x: float, y: float) -> Place:
        across = (x - left) / (right - left) if right > left else 0.0
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - y / top * (HEIGHT - _TOP - _BOTTOM)

    grid = "".join(_level(place(left, step), told(step)) for step in steps)
    ticks = "".join(_tick(place(x, 0), label) for x, label in x_ticks)
    drawn = "".join(_drawn(line, place) for line in lines)
    legend = "".join(f'<li class="{line.kind}">{escape(line.name)}</li>' for line in lines)
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{grid}{ticks}{drawn}</svg>'
        f'<ul class="legend">{legend}</ul></figure>'
    )


def _steps(highest: float) -> list[float]:
    """From 0 to above the highest, at 1, 2 or 5 times a power of ten."""
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / _TICKS
    power = 10 ** floor(log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return [step * number for number in range(ceil(highest / step - 1e-9) + 1)]


def _level(at: Place, label: str) -> str:
    x, y = at
    return (
        f'<line class="grid" x1="{x:.1f}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}"/>'
        f'<text class="y" x="{x - 6:.1f}" y="{y + 4:.1f}">{escape(label)}</text>'
    )


def _tick(at: Place, label: str) -> str:
    x, y = at
    return f'<text class="x" x="{x:.1f}" y="{y + 18:.1f}">{escape(label)}</text>'


def _drawn(line: Line, place: Callable[[float, float], Place]) -> str:
    runs: list[list[str]] = [[]]
    for x, y in line.points:
        if y is None:
            runs.append([])
        else:
            runs[-1].append("{:.1f},{:.1f}".format(*place(x, y)))
    return "".join(f'<polyline class="{line.kind}" points="{" ".join(run)}"/>' for run in runs if run)
