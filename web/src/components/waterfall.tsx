// What took how long within one span of time: a line each, of stretches one after another, over one axis.
import { duration } from "../core/format";

export interface Stretch {
  name: string;
  /** Seconds since the whole began. */
  from: number;
  to: number;
  kind: "wait" | "connect" | "think" | "stream" | "own" | "failed";
}

export interface WaterfallRow {
  key: string;
  label: string;
  /** Below the label. */
  note?: string;
  stretches: readonly Stretch[];
}

const TICKS = 4;

export function Waterfall({ label, rows, total }: { label: string; rows: readonly WaterfallRow[]; total: number }) {
  const place = (seconds: number) => `${total > 0 ? Math.min(100, (seconds / total) * 100) : 0}%`;
  const kinds = new Map(rows.flatMap((row) => row.stretches.map((stretch) => [stretch.kind, stretch.name] as const)));
  return (
    <figure class="waterfall" aria-label={label}>
      <div class="waterfall-row waterfall-axis" aria-hidden="true">
        <span />
        <span class="waterfall-track">
          {Array.from({ length: TICKS + 1 }, (_, tick) => (
            <span key={tick} class="waterfall-tick" style={{ left: `${(tick / TICKS) * 100}%` }}>
              {duration((total * tick) / TICKS)}
            </span>
          ))}
        </span>
      </div>
      <ol>
        {rows.map((row) => (
          <li key={row.key} class="waterfall-row">
            <span class="waterfall-label">
              <span class="one-line" title={row.label}>
                {row.label}
              </span>
              {row.note && (
                <span class="muted">{row.note}</span>
              )}
            </span>
            <span class="waterfall-track">
              {row.stretches.map((stretch) => (
                <span
                  key={`${stretch.kind}${stretch.from}`}
                  class={`stretch stretch-${stretch.kind}`}
                  style={{ left: place(stretch.from), width: place(stretch.to - stretch.from) }}
                  title={`${stretch.name}: ${duration(stretch.to - stretch.from)} (${duration(stretch.from)} – ${duration(stretch.to)})`}
                >
                  <span class="hidden-text">
                    {stretch.name} {duration(stretch.to - stretch.from)}
                  </span>
                </span>
              ))}
            </span>
          </li>
        ))}
      </ol>
      <ul class="legend">
        {[...kinds].map(([kind, name]) => (
          <li key={kind}>
            <span class={`legend-mark stretch-${kind}`} />
            <span class="muted">{name}</span>
          </li>
        ))}
      </ul>
    </figure>
  );
}
