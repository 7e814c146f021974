// A trend without axes, as wide as its place; only decoration of a figure that is told in words.
const WIDTH = 100;
const HEIGHT = 24;
/** Of the height, left free above and below. */
const MARGIN = 2;

export function Sparkline({ values, line }: { values: readonly (number | null)[]; line?: number }) {
  const known = values.filter((value): value is number => value !== null);
  if (known.length < 2) return <svg class="sparkline" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} aria-hidden="true" />;
  const highest = Math.max(...known, line !== undefined && Math.max(...known) > line / 2 ? line : 0, Number.MIN_VALUE);
  const step = WIDTH / (values.length - 1);
  const height = (value: number) => HEIGHT - MARGIN - (value / highest) * (HEIGHT - 2 * MARGIN);
  return (
    <svg class="sparkline" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
      {line !== undefined && line <= highest && <path class="sparkline-line" d={`M0 ${height(line).toFixed(2)}H${WIDTH}`} />}
      {runs(values).map((run) => {
        const points = run.map(([at, value]) => `${(at * step).toFixed(2)} ${height(value).toFixed(2)}`);
        const [first, last] = [run[0]![0] * step, run[run.length - 1]![0] * step];
        return (
          <g key={first}>
            <path class="sparkline-area" d={`M${first.toFixed(2)} ${HEIGHT}L${points.join("L")}L${last.toFixed(2)} ${HEIGHT}Z`} />
            <path class="sparkline-trend" d={`M${points.join("L")}${run.length === 1 ? "h0.01" : ""}`} />
          </g>
        );
      })}
    </svg>
  );
}

/** What is known without a gap, with its places. */
function runs(values: readonly (number | null)[]): [number, number][][] {
  const found: [number, number][][] = [];
  values.forEach((value, at) => {
    if (value === null) return;
    if (at > 0 && values[at - 1] !== null) found[found.length - 1]!.push([at, value]);
    else found.push([[at, value]]);
  });
  return found;
}
