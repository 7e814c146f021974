// A chart over time: uPlot on a canvas, with our own legend, which tells the figures under the pointer, and lines for limits.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { fullTime, NOTHING, tick } from "../core/format";
import { language, shade, timeZone } from "../core/preferences";

export type SeriesColour = "series-1" | "series-2" | "series-3" | "series-4" | "good" | "warn" | "bad" | "muted";

export interface Series {
  label: string;
  /** One a moment; null leaves a gap. */
  values: readonly (number | null)[];
  colour: SeriesColour;
  /** The ground below it is filled. */
  filled?: boolean;
}

export interface LimitLine {
  at: number;
  label: string;
  colour: SeriesColour;
}

interface ChartProps {
  /** What it shows; also its name for those who do not see it. */
  title: string;
  /** Unix seconds, ascending. */
  times: readonly number[];
  series: readonly Series[];
  lines?: readonly LimitLine[];
  format: (value: number) => string;
  /** The scale reaches at least this far. */
  least?: number;
  height?: number;
  /** Charts of one name show the same moment under the pointer. */
  sync?: string;
}

const HEIGHT = 168;
/** Between two ticks: whole minutes and up. */
const TICKS_S = [60, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800];

export function Chart({ title, times, series, lines = [], format, least = 0, height = HEIGHT, sync }: ChartProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [at, setAt] = useState<number | null>(null);
  const data = useMemo(() => [times, ...series.map((each) => each.values)] as unknown as uPlot.AlignedData, [times, series]);
  const shape = JSON.stringify([series.map(({ label, colour, filled }) => [label, colour, filled]), lines, least, height]);
  const look = `${shade.value} ${language.value} ${timeZone.value}`;

  useEffect(() => {
    const frame = place.current!;
    const made = new uPlot(options({ frame, series, lines, format, least, height, sync, onPoint: setAt }), data, frame);
    plot.current = made;
    const resized = new ResizeObserver(() => made.setSize({ width: frame.clientWidth, height }));
    resized.observe(frame);
    return () => {
      resized.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape, look]);

  useEffect(() => plot.current?.setData(data), [data]);

  const shown = at ?? latestKnown(series);
  return (
    <figure class="chart">
      <figcaption>
        <h3>{title}</h3>
        <span class="chart-at muted">{at !== null && times[at] !== undefined ? fullTime(times[at]) : ""}</span>
      </figcaption>
      <ul class="legend">
        {series.map(({ label, colour, values }) => (
          <li key={label}>
            <span class={`legend-mark colour-${colour}`} />
            <span class="muted">{label}</span> <span>{valueAt(values, shown, format)}</span>
          </li>
        ))}
        {lines.map(({ label, colour }) => (
          <li key={label}>
            <span class={`legend-mark legend-line colour-${colour}`} />
            <span class="muted">{label}</span>
          </li>
        ))}
      </ul>
      <div ref={place} class="chart-place" role="img" aria-label={`${title}: ${series.map((each) => `${each.label} ${valueAt(each.values, latestKnown(series), format)}`).join(", ")}`} />
    </figure>
  );
}

interface Options extends Pick<ChartProps, "series" | "lines" | "format" | "least" | "sync"> {
  frame: HTMLElement;
  height: number;
  onPoint: (at: number | null) => void;
}

function options({ frame, series, lines = [], format, least = 0, height, sync, onPoint }: Options): uPlot.Options {
  const colour = (name: string) => colourOf(frame, name);
  const font = `11px ${getComputedStyle(document.body).fontFamily}`;
  const axis = { stroke: colour("--faint"), font, ticks: { show: false }, gap: 6 };
  return {
    width: frame.clientWidth,
    height,
    padding: [8, 12, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      points: { size: 6 },
      drag: { x: false, y: false },
      ...(sync ? { sync: { key: sync, setSeries: false } } : {}),
    },
    scales: { x: { time: true }, y: { range: (_, __, highest) => [0, niceAbove(Math.max(highest || 0, least))] } },
    axes: [
      { ...axis, size: 26, space: 64, incrs: TICKS_S, grid: { show: false }, values: (_, moments) => moments.map((moment) => tick(moment)) },
      {
        ...axis,
        size: (_, values) => 14 + 6.2 * Math.max(2, ...(values ?? []).map((value) => value.length)),
        space: 32,
        grid: { stroke: colour("--line"), width: 1 },
        values: (_, values) => values.map((value) => (value === 0 ? "0" : format(value))),
      },
    ],
    series: [
      {},
      ...series.map(({ label, colour: name, filled }) => ({
        label,
        stroke: colour(`--${name}`),
        width: 1.5,
        spanGaps: false,
        points: { show: false },
        ...(filled ? { fill: faded(colour(`--${name}`)) } : {}),
      })),
    ],
    hooks: {
      setCursor: [(made) => onPoint(made.cursor.idx ?? null)],
      draw: [(made) => lines.forEach((line) => drawLine(made, line.at, colour(`--${line.colour}`)))],
    },
  };
}

function drawLine(made: uPlot, at: number, colour: string): void {
  const y = Math.round(made.valToPos(at, "y", true));
  const { left, top, width, height } = made.bbox;
  if (y < top || y > top + height) return;
  const { ctx } = made;
  ctx.save();
  ctx.strokeStyle = colour;
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(left, y);
  ctx.lineTo(left + width, y);
  ctx.stroke();
  ctx.restore();
}

/** The token as a colour that a canvas knows. */
function colourOf(place: HTMLElement, token: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(${token})`;
  place.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

function faded(colour: string): string {
  return colour.replace(/^rgb\((.*)\)$/, "rgba($1, 0.1)");
}

/** So that a figure at the top does not touch it. */
function niceAbove(value: number): number {
  return value > 0 ? value * 1.1 : 1;
}

function latestKnown(series: readonly Series[]): number | null {
  const length = series[0]?.values.length ?? 0;
  for (let at = length - 1; at >= 0; at--) {
    if (series.some((each) => each.values[at] != null)) return at;
  }
  return null;
}

function valueAt(values: readonly (number | null)[], at: number | null, format: (value: number) => string): string {
  const value = at === null ? null : values[at];
  return value == null ? NOTHING : format(value);
}
